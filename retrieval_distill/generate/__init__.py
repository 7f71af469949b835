"""Generates queries from documents, for a corpus that has none: steps in ``generate``, methods in ``ways``."""
