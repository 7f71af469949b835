"""What this machine computes with: device, fast dtype, and how to name it in a report.

Knows processors; must not know models.
"""

from __future__ import annotations

import ctypes
import logging
import platform
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch

from retrieval_distill.errors import UserError, nearest

logger = logging.getLogger("retrieval_distill")

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

    Says so where bfloat16 is asked for of a CPU without instructions for it.

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


def uses_bfloat16(asked: bool | None) -> bool:
    """Whether a training computes in bfloat16 on the best device; ``None``: where it is native."""
    if asked is None:
        return has_fast_bfloat16(device())
    return asked and dtype("bfloat16", device()) == torch.bfloat16  # which says so where that is slow


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

    keeps_order = False
    """Whether the weight is kept in the order that oneDNN reads too, and not reordered at every product."""

    _ordered: tuple[torch.Tensor, int, torch.Tensor] | None = None
    """The weight and its version when last seen, and a copy in oneDNN's order."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or input.dtype != self.weight.dtype or input.dtype not in _ONEDNN_DTYPES:
            self._ordered = None  # a step may follow, and fused optimisers leave a weight's version as it was
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self._for_onednn(), self.bias, "none", [], "")

    def _for_onednn(self) -> torch.Tensor:
        weight = self.weight
        if not self.keeps_order or not isinstance(weight, torch.nn.Parameter) or weight.is_inference():
            return weight  # not a parameter: lent for a call
        seen = self._ordered
        if seen is None or seen[0].data_ptr() != weight.data_ptr() or seen[1] != weight._version:
            ordered = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
            self._ordered = seen = (weight.detach(), weight._version, ordered)  # alive, so no other takes its address
        return seen[2]

    def __getstate__(self) -> dict[str, Any]:
        """Of what is copied or sent elsewhere; the order is made anew there."""
        return {name: value for name, value in self.__dict__.items() if name != "_ordered"}


_ONEDNN_DTYPES = (torch.float32, torch.bfloat16)

_ORDERED_BYTES = 2**30
"""Most that the linear layers of a model may take for their weights to be kept in two orders."""


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


def speed_up_linear_layers(model: torch.nn.Module, learns: bool = False) -> None:
    """Let a model's linear layers multiply with oneDNN, by weights in an order of its own, in place, on a CPU.

    PyTorch reorders bfloat16 weights at every product, which costs most where a query is embedded alone. float32
    products it leaves to MKL, which uses no AVX-512 on processors of AMD; oneDNN does, so
    there it takes over. In bfloat16 results stay the same; in float32 sums are taken in another order, so the last
    digits change, but, unlike MKL's, not with the number of threads. While gradients are wanted all works as before.

    Args:
        model: Is changed.
        learns: Whether its weights are going to change; then they are reordered at every product.
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
"""Names, as the system gives them, of the instruction sets that matrix products are fast or slow by."""


def instructions() -> list[str]:
    """Those of :data:`INSTRUCTIONS` that this processor has; none where the system does not tell."""
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
    """What computes here, in one line: the GPU, or the CPU and how many threads use it."""
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
    """With its generation, which virtual machines leave out of the name: bfloat16 may be twice as fast in the next."""
    known = _cpu_info()
    generation = f" (family {known['cpu family']}, model {known['model']})" if "cpu family" in known else ""
    return known.get("model name", platform.processor()) + generation
