"""Evaluation: measures, and their doubt."""
