"""Stages, files, locks, processes and progress: one of each."""
