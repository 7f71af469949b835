"""Texts become vectors on disk."""
