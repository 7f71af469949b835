"""Python programs as processes of their own, forked from one that has imported the libraries.

Such a process has computed nothing, shares nothing and is killed for good, like any other; it only need not spend five
seconds on imports first. What a fork cannot show is started with ``sys.executable``: what a program imports, how it is
installed, and that its results do not depend on the seed of Python's hashes, which all forks share.

Knows the processes of one test session; must not know what they do.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]

LIBRARIES = (
    "retrieval_distill.cli",
    "retrieval_distill.pipeline",
    "retrieval_distill.compress.training",
    "retrieval_distill.teacher.fitting.fit",
    "retrieval_distill.tuning.search",
    "tests.kills",
    "tests.training.driver",
)
"""What programs import, with all that it imports itself; what is not installed is left out."""

MOST = 1 << 17
"""Bytes of a request."""

ENVIRONMENT = dict(os.environ)
"""What holds before any test changes it."""

BRIEF = {
    "ROUNDS": 1, "QUERIES_PER_TURN": 2, "WARM_UP": 1, "COLD_QUERIES": 2, "CACHE_BYTES": 1 << 10,
    "ENCODING_ROUNDS": 1, "BUCKET_TEXTS": 4, "WARM_UP_TEXTS": 2,
}  # fmt: skip
"""How a run times its systems here: how fast a tiny model is means nothing."""


class Forked:
    """A program at work, with pipes of text; stands where ``subprocess.Popen`` would.

    Args:
        arguments: What follows ``python``: ``-c`` and code, ``-m`` and a module, or a script; and its own arguments.
        cwd: Its working directory; ``None``: this process's.
        env: Its environment; ``None``: this process's. What a library reads when it is imported is past.
    """

    def __init__(self, *arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        asked = {"arguments": [*map(str, arguments)], "cwd": str(cwd or Path.cwd()), "env": dict(env or os.environ)}
        (stdin, writing), (reading, stdout) = os.pipe(), os.pipe()
        self.stdin, self.stdout = os.fdopen(writing, "w"), os.fdopen(reading)
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the program works)
        self._told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs = stdin, stdout, self._stderr.fileno(), telling.fileno()
        socket.send_fds(_server(), [json.dumps(asked).encode()], theirs)
        os.close(stdin), os.close(stdout), telling.close()
        self.pid, self.returncode = int(self._told.recv(32)), None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the number of the signal that ended it."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a program", timeout)
            self.returncode = int(self._told.recv(32))
            self._told.close()
        return self.returncode

    def poll(self) -> int | None:
        """The same, or ``None`` while it works."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, text: str = "") -> tuple[str, str]:
        """Give it a last text, wait for its end, and tell what it printed and what it said on standard error."""
        if not self.stdin.closed:
            with self.stdin:
                self.stdin.write(text)
        with self.stdout, self._stderr:
            printed = self.stdout.read()
            self.wait()
            self._stderr.seek(0)
            return printed, self._stderr.read()


class Spawned(subprocess.Popen):
    """The same, begun by the system, where a process cannot be forked and handed its streams as on Linux."""

    def __init__(self, *arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        pipe, command = subprocess.PIPE, [sys.executable, *map(str, arguments)]
        super().__init__(command, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


Program = Forked if sys.platform == "linux" else Spawned


def run(*arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """A program from its start to its end; see :class:`Forked`."""
    program = Program(*arguments, cwd=cwd, env=env)
    try:
        printed, said = program.communicate()
    finally:  # a test that is stopped leaves nothing at work
        program.send_signal(signal.SIGKILL)
    return subprocess.CompletedProcess(arguments, program.returncode, printed, said)


@cache
def _server() -> socket.socket:
    """Where programs are asked for: at the process that forks them, which ends with this one."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        command = [sys.executable, "-m", "tests.programs", str(there.fileno())]
        subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL)
    return here


def leave_disks_alone() -> None:
    """Let this process wait for no disk; one flush takes up to a tenth of a second while other tests write.

    What a killed process wrote is there all the same. Power cuts are played by tests that note what was flushed, and
    programs that are started with ``sys.executable`` flush.
    """

    def fsync(handle: int) -> None:
        os.fstat(handle)  # a closed one is refused

    os.fsync = fsync


def serve(control: socket.socket) -> None:
    """Fork a program for every request, until the one who asks is gone."""
    leave_disks_alone()
    for name in LIBRARIES:
        with suppress(ImportError):
            import_module(name)
    for name, value in BRIEF.items():
        setattr(import_module("retrieval_distill.benchmarks.speed"), name, value)
    gc.collect()
    gc.freeze()
    while (request := socket.recv_fds(control, MOST, 4))[0]:
        asked, given = request[:2]
        if os.fork() == 0:
            control.close()
            _tend(json.loads(asked), given)
        for one in given:
            os.close(one)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those whose programs have ended
                pass


def _tend(asked: dict, given: list[int]) -> None:
    """Start a program, and tell its number and how it ended."""
    *streams, telling = given
    if (number := os.fork()) == 0:
        os.close(telling)
        for place, one in enumerate(streams):
            os.dup2(one, place)
            os.close(one)
        _become(**asked)
    for one in streams:
        os.close(one)
    try:
        os.write(telling, str(number).encode())
        os.write(telling, str(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])).encode())
    finally:  # also where nobody asks any more
        os._exit(0)


def _become(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """Be what ``python`` with these arguments is, from its first line to its end."""
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    code = 0
    try:
        _run(*arguments)
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(how: str, *rest: str) -> None:
    import numpy

    numpy.random.seed()  # drawn by each process for itself
    if how == "-m":
        sys.argv, sys.path[0] = [*rest], str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv, sys.path[0] = [how, *rest], str(Path(how).parent)
        runpy.run_path(how, run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
