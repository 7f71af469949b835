"""A Ray cluster as so many more devices: functions called on its nodes, in place of which they are called here.

Plain tasks, not Ray Data: the work is a list whose results the caller commits one by one, as it does without a
cluster. So what is on disk and what a restart finds do not depend on where a task ran, and a task whose node dies is
called again elsewhere without leaving a trace. Nodes need this package, and neither model files nor a shared disk:
models travel once to each process. What comes back passes through the caller.

Bytes are those of one machine if the nodes' processors are of its kind. oneDNN's products (bfloat16; float32 on AMD) do
not depend on how many threads share them; those of MKL (float32 elsewhere) may move in their last digits, since a task
has one core to itself.

Knows Ray (extra ``ray``); must not know what the functions do.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from retrieval_distill.errors import UserError

T = TypeVar("T")

_HELD: dict[str, Any] = {}
"""What this process, on a node, has fetched: the last thing shared."""


@dataclass(frozen=True)
class Shared(Generic[T]):
    """Something that was put up for all nodes."""

    box: tuple[Any, ...]
    """Ray's reference to it; within a tuple, because Ray would fetch a bare one anew for every call."""

    def get(self) -> T:
        """The thing itself, fetched once per process."""
        key = self.box[0].hex()
        if key not in _HELD:
            _HELD.clear()
            _HELD[key] = _ray().get(self.box[0])
        return _HELD[key]


def connect() -> int:
    """Join the cluster at ``RAY_ADDRESS`` (not set: the one of this machine), unless this process has joined one.

    Returns:
        How many calls it can work on at once: one for each of its GPUs or, where it has none, of its CPU cores.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    ray, address = _ray(), os.environ.get("RAY_ADDRESS", "auto")
    if not ray.is_initialized():
        try:
            _knock(address)
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"--engine ray: no Ray cluster answers ({error}); start one with `ray start --head`, add nodes with "
                "`ray start --address HOST:6379`, and set RAY_ADDRESS if it is another machine's"
            ) from error
    return int(ray.cluster_resources().get(_resource(), 1))


def _knock(address: str) -> None:
    """See whether anything listens at HOST:PORT; Ray alone would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


def share(thing: T) -> Shared[T]:
    """Put something up for all nodes."""
    return Shared((_ray().put(thing),))


def call(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of this package on a node with a free GPU or core; on another one, where the node dies.

    Raises:
        Exception: Whatever the function raised there.
    """
    ray = _ray()
    try:
        return ray.get(_remote(function).remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


@lru_cache
def _remote(function: Callable[..., Any]) -> Any:
    """The function as a task: Ray sends its code to the cluster once."""
    needs = {"num_gpus": 1} if _resource() == "GPU" else {"num_cpus": 1}
    return _ray().remote(max_retries=-1, **needs)(function)


def _resource() -> str:
    return "GPU" if _ray().cluster_resources().get("GPU") else "CPU"


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray needs: pip install 'retrieval-distill[ray]'") from None
    return ray
