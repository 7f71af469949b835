"""Evaluation: measures, intervals and tests."""
