"""What this machine can do, so that a figure can be read as a share of its peak.

    python scripts/machine.py
    python scripts/machine.py --json runs/machine.json --seconds 1

Prints the processor's instruction sets, then the rate of a product of two square matrices in each dtype that PyTorch
multiplies here (a billion operations a second; 8 bits as PyTorch's quantised linear layer does them, weights per output
and inputs per batch), and the rate at which an array is copied (gigabytes read and written a second). Each is the best
of several rounds: what the machine reaches when nothing else is at work.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from retrieval_distill.hardware import devices
from retrieval_distill.runtime.files import write_json

SIZE = 2048
COPIED = 2**27
"""Numbers of 4 bytes: more than any cache holds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="spent on each figure (default 2)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"rows and columns of a matrix (default {SIZE})")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = devices.describe()
    products = {name: gflops(multiply, args.size, args.seconds) for name, multiply in multipliers(args.size).items()}
    copied = bandwidth(args.seconds)
    print(f"{machine['cpu']}, {machine['threads']} threads: {', '.join(machine['instructions']) or 'unknown'}")
    for name, rate in products.items():
        print(f"{name:>9}: {rate:8,.1f} GFLOP/s")
    print(f"{'memory':>9}: {copied:8,.1f} GB/s")
    if args.json:
        write_json(args.json, {"environment": machine, "gflops": products, "gigabytes_per_second": copied})


def multipliers(size: int) -> dict[str, Callable[[], object]]:
    """A product of two matrices by dtype, and one of 8 bits."""
    device = devices.device()
    found: dict[str, Callable[[], object]] = {}
    for name, dtype in devices.DTYPES.items():
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        found[name] = lambda left=left, right=right: left @ right
    if device == "cpu":
        left, right = (torch.randint(-63, 64, (size, size), dtype=torch.int8) for _ in range(2))
        found["int8"] = lambda: torch._int_mm(left, right.t())
    return found


def gflops(multiply: Callable[[], object], size: int, seconds: float) -> float:
    """Billions of additions and multiplications a second."""
    return 2 * size**3 / best(multiply, seconds) / 1e9


def bandwidth(seconds: float) -> float:
    """Gigabytes read and written a second by a copy."""
    source = np.ones(COPIED, dtype=np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / best(lambda: np.copyto(target, source), seconds) / 1e9


@torch.inference_mode()
def best(act: Callable[[], object], seconds: float) -> float:
    """The shortest time that the act took, after one that is not counted."""
    act()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        act()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
