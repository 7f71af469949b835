"""Training: groups, batches and the trainer."""

CHECKPOINTS = "checkpoints"
"""Folder inside the trained model's with everything that only resuming needs; removed once the model is saved."""
