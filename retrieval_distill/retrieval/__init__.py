"""What makes Runs: BM25, exact search, and their fusion."""
