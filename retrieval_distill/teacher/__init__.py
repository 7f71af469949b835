"""Teachers: the kinds of scorer, scores for a Run, calibration, the gate and fine-tuning."""
