"""FAISS indexes over vectors on disk: building, tuning, opening, searching."""
