"""Embeds texts into vectors on disk."""
