"""Task-agnostic compression: a large encoder teaches a small one on plain text, before any retrieval training."""
