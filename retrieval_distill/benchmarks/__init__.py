"""Benchmarks of models: quality and speed of bi-encoders and rerankers, and tasks other than retrieval."""
