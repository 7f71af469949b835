"""A Ray cluster as extra devices: calls functions on its nodes instead of on this machine.

Plain tasks, not Ray Data: the work is a list whose results the caller commits one by one, exactly as without a cluster.
What is on disk and what a restart finds therefore do not depend on where a task ran, and a task whose node dies is
simply run again elsewhere. Nodes need this package, but neither model files nor a shared disk: models are sent once to
each process. Results pass through the caller.

Results are the same bytes as on one machine if the nodes have the same kind of processor. oneDNN's products (bfloat16;
float32 on AMD) do not depend on the number of threads; those of MKL (float32 elsewhere) may differ in their last
digits, since a task runs on one core.

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

_FETCHED: dict[str, Any] = {}
"""The last shared object that this process, on a node, fetched."""


@dataclass(frozen=True)
class Shared(Generic[T]):
    """An object in Ray's object store, which all nodes can fetch."""

    reference: tuple[Any, ...]
    """Ray's reference to it, in a tuple because Ray would fetch a bare one anew for every call."""

    def get(self) -> T:
        """The object itself, fetched once per process."""
        key = self.reference[0].hex()
        if key not in _FETCHED:
            _FETCHED.clear()
            _FETCHED[key] = _ray().get(self.reference[0])
        return _FETCHED[key]


def connect() -> int:
    """Join the cluster at ``RAY_ADDRESS`` (default: the local one), unless this process has already joined one.

    Returns:
        The number of calls it can run at once: one per GPU or, without GPUs, one per CPU core.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    ray, address = _ray(), os.environ.get("RAY_ADDRESS", "auto")
    if not ray.is_initialized():
        try:
            _check_reachable(address)
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"--engine ray: no Ray cluster answers ({error}); start one with `ray start --head`, add nodes with "
                "`ray start --address HOST:6379`, and set RAY_ADDRESS if it is another machine's"
            ) from error
    return int(ray.cluster_resources().get(_resource(), 1))


def _check_reachable(address: str) -> None:
    """Check that something listens at HOST:PORT; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


def share(thing: T) -> Shared[T]:
    """Put an object into Ray's object store."""
    return Shared((_ray().put(thing),))


def call(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of this package on a node with a free GPU or core; on another one if that node dies.

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
