"""The teacher: cross-encoder scores, the store that keeps them, and the gate."""
