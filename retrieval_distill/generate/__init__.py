"""Queries for a corpus that has none, made from its documents: ``making`` has the order, ``ways`` the ways."""
