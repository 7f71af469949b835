"""First-stage retrieval: BM25, exact search, and their fusion."""
