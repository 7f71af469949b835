"""A cross-encoder fine-tuned on judgements."""
