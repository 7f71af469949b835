"""Training: groups, batches and the trainer."""

CHECKPOINTS = "checkpoints"
"""Folder, in that of what is trained, of all that only a resumed training reads; it goes once the result is safe."""
