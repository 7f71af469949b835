"""This machine's device and fast dtype, kernels for it, and its description for reports.

Knows processors; must not know models.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch

from retrieval_distill.errors import UserError, nearest
from retrieval_distill.runtime import processes

logger = logging.getLogger("retrieval_distill")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device() -> str:
    """``"cuda"`` if available, else ``"cpu"``; of several processes, each has a GPU of its own as far as they reach."""
    if not torch.cuda.is_available():
        return "cpu"
    if processes.count() > 1:
        torch.cuda.set_device(processes.place() % torch.cuda.device_count())
    return "cuda"


def devices() -> list[str]:
    """Every GPU, or the CPU."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor of this machine's memory on a device; a GPU fetches it by itself, while the caller goes on.

    That needs memory which the system leaves in place, into which the tensor is copied first.
    """
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or this machine, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release_memory() -> None:
    """Give the device's memory back that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def dtype(name: str, device: str) -> torch.dtype:
    """A dtype by name; ``"auto"`` is bfloat16 if the device supports it natively, else float32.

    Warns about bfloat16 on a CPU without instructions for it.

    Raises:
        UserError: The name is unknown.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is unknown{nearest(name, [*DTYPES, 'auto'])}")
    if name == "bfloat16" and device == "cpu" and not has_fast_bfloat16(device):
        logger.warning(
            "bfloat16 is hundreds of times slower than float32 on this CPU (%s), which has no instructions for it: use "
            "dtype float32 or auto (in training bf16=false)", _cpu_name(),
        )  # fmt: skip
    return DTYPES[name]


def uses_bfloat16(wanted: bool | None) -> bool:
    """Whether training computes in bfloat16 on the best device; ``None``: if it is native."""
    if wanted is None:
        return has_fast_bfloat16(device())
    return wanted and dtype("bfloat16", device()) == torch.bfloat16  # warns if that is slow


def dtype_name(name: str) -> str:
    """The dtype that ``"auto"`` means on the best device; other names unchanged."""
    return str(dtype(name, device())).removeprefix("torch.") if name == "auto" else name


@lru_cache
def keep_freed_memory() -> None:
    """Let this process keep up to 256 MB of freed memory, in pieces below 64 MB, for its next allocations.

    The C library would return a forward pass's tensors to the system, which then zeroes the pages of the next ones: a
    twelfth of the time of embedding on a CPU. Does nothing unless the C library is glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 256 << 20)
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 64 << 20)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Constants of malloc.h."""


class _OneDnnLinear(torch.nn.Linear):
    """A linear layer that uses oneDNN when no gradients are needed."""

    keeps_order = False
    """Whether to cache a copy of the weight in oneDNN's order, instead of reordering it at every product."""

    _ordered: tuple[torch.Tensor, int, torch.Tensor] | None = None
    """The weight and its version when cached, and the copy in oneDNN's order."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        usual = input.device.type != "cpu" or input.dtype != self.weight.dtype or input.dtype not in _ONEDNN_DTYPES
        if torch.is_grad_enabled() or usual:
            self._ordered = None  # a step may follow, and fused optimisers do not change a weight's version
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self._for_onednn(), self.bias, "none", [], "")

    def _for_onednn(self) -> torch.Tensor:
        weight = self.weight
        if not self.keeps_order or not isinstance(weight, torch.nn.Parameter) or weight.is_inference():
            return weight  # not a parameter: a temporary one
        cached = self._ordered
        if cached is None or cached[0].data_ptr() != weight.data_ptr() or cached[1] != weight._version:
            ordered = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
            self._ordered = cached = (weight.detach(), weight._version, ordered)  # kept alive: its address stays taken
        return cached[2]

    def __getstate__(self) -> dict[str, Any]:
        """State to copy or pickle, without the cached copy."""
        return {name: value for name, value in self.__dict__.items() if name != "_ordered"}


_ONEDNN_DTYPES = (torch.float32, torch.bfloat16)


def gated_gelu(value: torch.nn.Module, gate: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """``gelu(value(states)) * gate(states)``; where oneDNN computes both layers, it does the rest on the way."""
    both = isinstance(value, _OneDnnLinear) and isinstance(gate, _OneDnnLinear)
    if not both or torch.is_grad_enabled() or states.dtype != value.weight.dtype:
        return torch.nn.functional.gelu(value(states)).mul_(gate(states))
    (weight, bias), (gate_weight, gate_bias) = (
        (cast(_OneDnnLinear, layer)._for_onednn(), cast(_OneDnnLinear, layer).bias) for layer in (value, gate)
    )
    active = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "gelu", [], "none")
    return torch.ops.mkldnn._linear_pointwise.binary(states, active, gate_weight, gate_bias, "mul")


_ORDERED_BYTES = 2**30
"""Size of a model's linear layers up to which their weights are cached in a second order."""


def align(model: torch.nn.Module) -> None:
    """Align a model's weights in memory like PyTorch's own tensors, in place.

    Weights mapped from a file may be unaligned, and MKL then sums in another order: a copy of the model, as on another
    machine, would give other last digits.
    """
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.data_ptr() % _ALIGNED:
            tensor.data = tensor.data.clone()


_ALIGNED = 64
"""Alignment of PyTorch's own tensors, in bytes."""


def speed_up_linear_layers(model: torch.nn.Module, learns: bool = False) -> None:
    """Make a model's linear layers use oneDNN on a CPU, with weights cached in its own order, in place.

    PyTorch reorders bfloat16 weights at every product, which costs most for a single query. For float32 it uses MKL,
    which does not use AVX-512 on AMD processors; oneDNN does, so it takes over there. In bfloat16 results stay the
    same; in float32 sums are taken in another order, so the last digits change, but, unlike with MKL, not with the
    number of threads. Nothing changes while gradients are needed.

    Args:
        model: The model to change.
        learns: Whether its weights will change; then they are reordered at every product.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    found = [module for module in model.modules() if type(module) is torch.nn.Linear and _is_onednn_faster(module)]
    fits = sum(module.weight.nbytes for module in found) <= _ORDERED_BYTES
    for module in found:
        module.__class__ = _OneDnnLinear
        cast(_OneDnnLinear, module).keeps_order = fits and not learns


def _is_onednn_faster(layer: torch.nn.Linear) -> bool:
    if layer.weight.dtype == torch.bfloat16:
        return has_fast_bfloat16("cpu")
    return layer.weight.dtype == torch.float32 and _cpu_info().get("vendor_id") == "AuthenticAMD"


@lru_cache
def has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 matrix products are native (CUDA 8.0 and up; CPUs with AVX-512 BF16 or AMX)."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())


def has_fast_int8(device: str) -> bool:
    """Whether eight-bit matrix products are clearly faster than float32 ones (CPUs with AVX2 or more, not GPUs)."""
    return device == "cpu" and torch.backends.mkldnn.is_available() and "avx2" in _cpu_flags()


INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "i8mm",
    "bf16",
)
"""The system's names of the instruction sets that determine the speed of matrix products."""


def instructions() -> list[str]:
    """The :data:`INSTRUCTIONS` that this processor has; empty if the system does not list them."""
    flags = _cpu_flags()
    return [name for name in INSTRUCTIONS if name in flags]


def describe() -> dict[str, Any]:
    """The machine in a few words, for reports."""
    return {
        "cpu": _cpu_name(),
        "instructions": instructions(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "fast_bfloat16": has_fast_bfloat16(device()),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def name() -> str:
    """The device in one line: the GPU, or the CPU and its number of threads."""
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{_cpu_name()}, {torch.get_num_threads()} threads"
    )


@lru_cache
def _cpu_info() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _cpu_flags() -> set[str]:
    return set((_cpu_info().get("flags") or _cpu_info().get("Features", "")).split())


def _cpu_name() -> str:
    """The CPU with family and model, which virtual machines omit: bfloat16 may be twice as fast in the next one."""
    known = _cpu_info()
    generation = f" (family {known['cpu family']}, model {known['model']})" if "cpu family" in known else ""
    return known.get("model name", platform.processor()) + generation
