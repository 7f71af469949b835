"""How much can 8-bit linear layers of a small encoder save on this CPU? One thread, MiniLM's four kinds of layer.

    python scripts/bench_int8.py
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python scripts/bench_int8.py

Milliseconds of 4,096 tokens through each layer (medians, turn by turn): in the dtype that is fast here; the 8-bit product
alone; and all that keeps a ranking, with a scale for each token and each output (the tokens' largest values are found,
they are rounded, multiplied, and the result is scaled back, in pieces that stay in the cache). The last line says what all
layers gain, and what they would if scaling back cost nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from retrieval_distill.hardware import devices

LAYERS = {"queries, keys, values": (384, 1152), "output": (384, 384), "up": (384, 1536), "down": (1536, 384)}
TOKENS, PIECE = 4_096, 256


def ways(inputs: int, outputs: int, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """One layer: as it is, its product in 8 bits, and all that 8 bits take."""
    tokens, weight = torch.randn(TOKENS, inputs).to(dtype), (torch.randn(outputs, inputs) * 0.05).to(dtype)
    by_output = weight.float().abs().amax(1) / 127
    rounded_weight = (weight.float() / by_output[:, None]).round().to(torch.int8).t()
    bias = torch.zeros(outputs)

    def rounded(piece: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wide = piece.float()
        by_token = wide.abs().amax(1, keepdim=True) / 127
        return (wide / by_token).round_().to(torch.int8), by_token

    whole, _ = rounded(tokens)

    def rounding_alone() -> None:
        for piece in tokens.split(PIECE):
            rounded(piece)

    def everything() -> torch.Tensor:
        out = torch.empty(TOKENS, outputs, dtype=dtype)
        for at, piece in enumerate(tokens.split(PIECE)):
            codes, by_token = rounded(piece)
            products = torch._int_mm(codes, rounded_weight).float().mul_(by_token)
            out[at * PIECE : (at + 1) * PIECE] = torch.addcmul(bias, products, by_output)
        return out

    return {
        "now": lambda: torch.nn.functional.linear(tokens, weight),
        "product": lambda: torch._int_mm(whole, rounded_weight),
        "rounding": rounding_alone,
        "everything": everything,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dtype = devices.dtype("auto", "cpu")
    total = dict.fromkeys(("now", "product", "rounding", "everything"), 0.0)
    print(f"| layer | {dtype} | 8-bit product | rounding | all of 8 bits |\n|---|---|---|---|---|")
    for name, (inputs, outputs) in LAYERS.items():
        tried = ways(inputs, outputs, dtype)
        seconds: dict[str, list[float]] = {way: [] for way in tried}
        for _ in range(args.rounds + 1):
            for way, work in tried.items():
                start = time.perf_counter()
                work()
                seconds[way].append(time.perf_counter() - start)
        ms = {way: median(found[1:]) * 1000 for way, found in seconds.items()}
        total = {way: total[way] + ms[way] for way in total}
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in ms.values()) + " |")
    least = total["product"] + total["rounding"]
    print(f"all layers: {total['now'] / total['everything']:.2f}x; without scaling back {total['now'] / least:.2f}x")


if __name__ == "__main__":
    main()
