"""Models measured: quality and speed of bi-encoders, rerankers and sentence pairs."""
