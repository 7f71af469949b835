"""Reporting: what a run measured, for people and programs."""
