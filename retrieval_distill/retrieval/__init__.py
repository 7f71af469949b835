"""Retrieval: the Run, and what makes one."""
