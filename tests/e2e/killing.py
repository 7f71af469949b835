"""A run that is killed in the middle of a training."""

from __future__ import annotations

DRIVER = """
import os, signal, sys
from pathlib import Path
from retrieval_distill import pipeline
from retrieval_distill.config import load_recipe
from retrieval_distill.training import checkpoints

count, real = 0, checkpoints.Advance.on_step_end

def dying(*args, **kwargs):
    global count
    real(*args, **kwargs)
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

checkpoints.Advance.on_step_end = dying
pipeline.run(load_recipe(sys.argv[1]), out=Path(sys.argv[2]))
"""
"""Arguments: recipe, folder, and the optimiser step, counted over all trainings, after which it is killed."""
