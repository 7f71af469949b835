"""How much can 8-bit linear layers of a small encoder save on this CPU? One thread, MiniLM's four kinds of layer.

    python scripts/bench_int8.py
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python scripts/bench_int8.py
    python scripts/bench_int8.py --whole ../shared/beir/scifact

Milliseconds of 4,096 tokens through each layer (medians, turn by turn): in the dtype that is fast here; the 8-bit product
alone; and all of ``dtype=int8``, which rounds the tokens and scales the sums back. The last line says what all layers gain, and
what they would if the rest cost nothing. ``--whole``: where the time of the whole shipped teacher goes, over 100 pairs of a data
set's test split with documents of up to 512 tokens, in both dtypes and on all cores.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from bench_scoring import ours, real_pairs
from torch.profiler import ProfilerActivity, profile

from retrieval_distill.hardware import devices, eight_bits

LAYERS = {"queries, keys, values": (384, 1152), "output": (384, 384), "up": (384, 1536), "down": (1536, 384)}
TOKENS = 4_096

PARTS = {
    "products of linear layers": {"mkldnn::_linear_pointwise", "aten::_int_mm", "aten::addmm", "aten::mm"},
    "attention": {
        "aten::_softmax", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product_flash_attention_for_cpu",
    },
}  # fmt: skip
"""PyTorch's own functions by what they are for; all others are the rest."""


def ways(inputs: int, outputs: int, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """One layer: as it is, its product in 8 bits alone, and as ``dtype=int8`` computes it."""
    usual = torch.nn.Linear(inputs, outputs)
    eight = eight_bits.Linear(usual)
    tokens, usual = torch.randn(TOKENS, inputs).to(dtype), usual.to(dtype)
    codes = torch.randint(-127, 128, (TOKENS, inputs), dtype=torch.int8)
    return {
        "now": lambda: usual(tokens),
        "product": lambda: torch._int_mm(codes, eight.codes),
        "all": lambda: eight(tokens),
    }


def whole(source: str) -> None:
    """Print seconds of the shipped teacher's scoring, by part."""
    pairs = real_pairs(source, 100, Path("runs/bench_int8"))
    print(f"| of 100 pairs | {' | '.join(PARTS)} | rest | all |\n|---|---|---|---|---|")
    for dtype in dict.fromkeys((devices.dtype_name("auto"), "int8")):
        score, seconds = ours("starter", dtype), Counter[str]()
        score(pairs)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            score(pairs)
        for event in profiled.key_averages():
            part = next((part for part, names in PARTS.items() if event.key in names), "rest")
            seconds[part] += event.self_cpu_time_total / 1e6
        told = [*(seconds[part] for part in (*PARTS, "rest")), seconds.total()]
        print(f"| {dtype} | " + " | ".join(f"{value:.2f} s" for value in told) + " |")


@torch.inference_mode()
def layers(rounds: int) -> None:
    """Print milliseconds of each kind of layer."""
    torch.set_num_threads(1)
    devices.keep_freed_memory()  # as for every model on a CPU
    dtype = devices.dtype("auto", "cpu")
    total = dict.fromkeys(("now", "product", "all"), 0.0)
    print(f"| layer | {dtype} | 8-bit product | all of 8 bits |\n|---|---|---|---|")
    for name, (inputs, outputs) in LAYERS.items():
        tried = ways(inputs, outputs, dtype)
        seconds: dict[str, list[float]] = {way: [] for way in tried}
        for _ in range(rounds + 1):
            for way, work in tried.items():
                start = time.perf_counter()
                work()
                seconds[way].append(time.perf_counter() - start)
        ms = {way: median(found[1:]) * 1000 for way, found in seconds.items()}
        total = {way: total[way] + ms[way] for way in total}
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in ms.values()) + " |")
    now = total["now"]
    print(f"all layers: {now / total['all']:.2f}x; the products alone {now / total['product']:.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--whole", metavar="DATASET", help="python-docs, or a folder in BEIR layout")
    args = parser.parse_args()
    if args.whole:
        whole(args.whole)
    else:
        layers(args.rounds)


if __name__ == "__main__":
    main()
