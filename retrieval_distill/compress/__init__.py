"""Task-agnostic compression: a small encoder taught by a larger one on plain text, before any retrieval training."""
