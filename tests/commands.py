"""The command line, in this process (fast) or as a program of its own."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from retrieval_distill import cli


def command(*arguments: object, code: int = 0) -> str:
    """What ``retrieval-distill`` prints, run through its own entry point; it must end with this code."""
    printed, ended = io.StringIO(), 0
    log = logging.StreamHandler(printed)  # warnings, unless a test lowers the logger's level
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", ["retrieval-distill", *map(str, arguments)])
        patch.setattr(cli, "show_progress", lambda: None)
        logging.getLogger("retrieval_distill").addHandler(log)
        try:
            cli.main()
        except SystemExit as end:
            ended = end.code
        finally:
            logging.getLogger("retrieval_distill").removeHandler(log)
    assert (ended or 0) == code, printed.getvalue()
    return printed.getvalue()


def program(*arguments: object, code: int = 0) -> str:
    """The same as a program of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "retrieval_distill", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    if code == 2:
        assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
