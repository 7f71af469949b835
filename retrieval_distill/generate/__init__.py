"""Queries for a corpus that has none, made from its documents: ``generate`` has the order, ``ways`` the ways."""
