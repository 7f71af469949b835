"""Work that is killed at a chosen moment: in a child of a warm process, before its n-th act upon files.

A program of a test forks before it computes anything.
"""

from __future__ import annotations

from scripts.sweeping import attempt, done, files

__all__ = ["attempt", "done", "files"]
