"""The teacher: what kinds there are, their scores for a Run, calibrated, and the gate."""
