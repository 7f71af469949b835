"""FAISS indexes over vectors on disk: built, tuned, opened and asked."""
