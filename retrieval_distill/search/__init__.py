"""Searching: a question in, the best documents out - dense, hybrid, reranked, filtered - kept warm in one object."""
