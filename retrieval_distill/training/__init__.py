"""Training: groups, batches and the trainer."""
