"""Attention that learns, in bfloat16 on a CPU: ours against PyTorch's fused kernel, one thread.

    python scripts/bench_attention.py

Forward and backward pass of 12 heads of 32 dimensions (MiniLM's) with a padding mask, turn by turn; medians in
milliseconds, and how far the gradient of the queries is from that in float64, as a share of its length.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from retrieval_distill.hardware import attention

HEADS, SIZE = 12, 32
SHAPES = [(32, 24), (96, 80), (96, 128), (32, 256), (16, 512)]


class Layer(nn.Module):
    """As transformers' layers tell that they see both ways."""

    is_causal = False


def states(texts: int, tokens: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Queries, keys, values and the gradient that comes back; the same numbers in every dtype."""
    rng = torch.Generator().manual_seed(0)
    made = [torch.randn((texts, HEADS, tokens, SIZE), generator=rng).bfloat16() for _ in range(4)]
    return [part.to(dtype).requires_grad_(number < 3) for number, part in enumerate(made)]


def passes(attend, parts: list[torch.Tensor], mask: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Seconds of both passes, and the gradient of the queries."""
    *given, back = parts
    for part in given:
        part.grad = None
    start = time.perf_counter()
    attend(Layer(), *given, mask, scaling=SIZE**-0.5)[0].backward(back.transpose(1, 2))
    return time.perf_counter() - start, given[0].grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    ways = {"ours": attention.attend, "kernel": sdpa_attention_forward}
    print("| texts x tokens | ours | PyTorch's kernel | ratio | our error | the kernel's |\n|---|---|---|---|---|---|")
    for texts, tokens in SHAPES:
        lengths = torch.arange(texts)[:, None] % (tokens // 2) + tokens // 2
        mask = (torch.arange(tokens)[None] < lengths)[:, None, None].expand(-1, 1, tokens, -1)
        parts = states(texts, tokens, torch.bfloat16)
        _, exact = passes(sdpa_attention_forward, states(texts, tokens, torch.float64), mask)
        found = {name: [passes(attend, parts, mask)] for name, attend in ways.items()}  # warms up
        for _ in range(args.rounds):
            for name, attend in ways.items():
                found[name].append(passes(attend, parts, mask))
        ms = {name: median(seconds for seconds, _ in runs[1:]) * 1000 for name, runs in found.items()}
        error = {name: ((runs[-1][1].double() - exact).norm() / exact.norm()).item() for name, runs in found.items()}
        ratio = ms["kernel"] / ms["ours"]
        told = f"{ms['ours']:.0f} | {ms['kernel']:.0f} | {ratio:.1f}x | {error['ours']:.1e} | {error['kernel']:.1e} |"
        print(f"| {texts} x {tokens} | {told}", flush=True)


if __name__ == "__main__":
    main()
