"""What this machine computes with: device, fast dtype, and how to name it in a report.

Knows processors; must not know models.
"""

from __future__ import annotations

import ctypes
import platform
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from retrieval_distill.errors import UserError, nearest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device() -> str:
    """``"cuda"`` where there is one, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def devices() -> list[str]:
    """Every GPU, or the CPU."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or this machine, had no memory left for a tensor."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def dtype(name: str, device: str) -> torch.dtype:
    """A dtype by name; ``"auto"`` is bfloat16 where the device multiplies it natively, else float32.

    Raises:
        UserError: The name is unknown.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is unknown{nearest(name, [*DTYPES, 'auto'])}")
    return DTYPES[name]


def dtype_name(name: str) -> str:
    """What ``"auto"`` stands for on the best device; other names as they are."""
    return str(dtype(name, device())).removeprefix("torch.") if name == "auto" else name


def quantize_linear_layers(model: torch.nn.Module, device: str) -> None:
    """Put 8-bit linear layers (weights per output once, activations per batch as they come) into a model, in place.

    The fastest there is on a CPU with VNNI, but a batch's largest activation sets the step for all of it: how well
    rankings survive depends on the model, so whoever uses it has to measure.

    Raises:
        UserError: The device is not a CPU.
    """
    if device != "cpu":
        raise UserError(f"dtype int8 works on a CPU; on {device} use bfloat16 or float16")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch names its successor, an add-on package
        if "onednn" in torch.backends.quantized.supported_engines:
            torch.backends.quantized.engine = "onednn"
        per_output = torch.ao.quantization.per_channel_dynamic_qconfig
        torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear: per_output}, inplace=True)


@lru_cache
def keep_freed_memory() -> None:
    """Let this process keep up to 256 MB that it has freed, in pieces below 64 MB, for what it allocates next.

    The C library would hand a forward pass's tensors back to the system after use, which zeroes the pages of the next
    one's: a twelfth of the time of embedding on a CPU. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 256 << 20)
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 64 << 20)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""As malloc.h numbers them."""


class _OneDnnLinear(torch.nn.Linear):
    """A linear layer whose products are oneDNN's where nothing is learned; it knows no gradients."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or input.dtype != torch.float32 or self.weight.dtype != torch.float32:
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def align(model: torch.nn.Module) -> None:
    """Move a model's weights to where PyTorch puts tensors of its own, in place.

    Read from a file they lie at whatever address they have there, and MKL sums in another order at odd ones: a copy of
    the model, such as another machine gets, would give other last digits.
    """
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.data_ptr() % _ALIGNED:
            tensor.data = tensor.data.clone()


_ALIGNED = 64
"""Bytes; addresses of tensors that PyTorch made are multiples of it."""


def speed_up_linear_layers(model: torch.nn.Module) -> None:
    """Let a model's float32 linear layers multiply with oneDNN instead of MKL, in place, on a CPU of AMD.

    PyTorch leaves float32 products to MKL, which uses no AVX-512 on processors of AMD; oneDNN does. Sums are taken in
    another order, so results change in the last digits of float32, but, unlike MKL's, not with the number of threads.
    Layers of any other dtype, and all layers while gradients are wanted, work as before.
    """
    if _cpu_info().get("vendor_id") != "AuthenticAMD" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = _OneDnnLinear


@lru_cache
def has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 matrix products are native (CUDA 8.0 and up; CPUs with AVX-512 BF16 or AMX)."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())


def describe() -> dict[str, Any]:
    """The machine in a few words, for reports."""
    return {
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "fast_bfloat16": has_fast_bfloat16(device()),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def name() -> str:
    """What computes here, in one line: the GPU, or the CPU and how many threads use it."""
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{_cpu_name()}, {torch.get_num_threads()} threads"
    )


def _cpu_info() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _cpu_flags() -> set[str]:
    return set(_cpu_info().get("flags", "").split())


def _cpu_name() -> str:
    return _cpu_info().get("model name", platform.processor())
