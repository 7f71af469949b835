"""Evaluation: measures, their doubt, and speed."""
