"""Indexing: vectors on disk and FAISS indexes over them."""
