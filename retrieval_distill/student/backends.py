"""Runs a bi-encoder in another runtime than PyTorch, in 8 or 16 bits, without keeping what is exported for that.

Knows runtimes; must not know texts or which runtime is fastest.

    onnx       ONNX Runtime, linear layers in 8 bits (weights per output, activations dynamically per batch)
    openvino   OpenVINO, in bfloat16 if this CPU supports it natively, else in float32
"""

from __future__ import annotations

import logging
import tempfile
from importlib.util import find_spec
from pathlib import Path

from retrieval_distill.errors import UserError, nearest
from retrieval_distill.hardware import devices
from retrieval_distill.student import encoder, graph, routes
from retrieval_distill.student.exported import RUNTIMES, Exported, Run, Side
from retrieval_distill.student.routes import Kind

PACKAGES = {name: ("onnx", runtime.package) for name, runtime in RUNTIMES.items()}
"""Packages that exporting to each runtime needs; this package's extras are named after the runtimes."""


def installed_backends() -> list[str]:
    """The runtimes installed, besides PyTorch."""
    return [name for name, packages in PACKAGES.items() if all(map(find_spec, packages))]


def require_installed(backend: str, others: tuple[str, ...] = ()) -> None:
    """Refuse a runtime that is unknown or not installed.

    Args:
        backend: Its name.
        others: What else could have been meant.

    Raises:
        UserError: It is.
    """
    if backend not in PACKAGES:
        raise UserError(f"backend {backend!r} is unknown{nearest(backend, [*others, *PACKAGES])}")
    if backend not in installed_backends():
        raise UserError(f"backend {backend!r} needs: pip install 'retrieval-distill[{backend}]'")


def load(name: str, backend: str, max_length: int | None = None) -> Exported:
    """Load a bi-encoder like ``encoder.load``, to be run in another runtime.

    Args:
        name: See :func:`retrieval_distill.models.resolve`.
        backend: ``"onnx"`` or ``"openvino"``.
        max_length: Token limit; ``None``: the model's own.

    Raises:
        UserError: The runtime is unknown or not installed, or the model is more than transformers.
    """
    require_installed(backend, ("torch", "auto"))
    model = encoder.load(name, "float32", max_length)
    if not encoder.is_plain(model) or devices.device() != "cpu":
        raise UserError(f"backend {backend!r} supports only models with transformers, on a CPU; use --backend torch")

    def side(kind: Kind) -> Side:
        modules = routes.path(model, kind)
        tokenizer = graph.tokenizer(name, modules[0])
        with tempfile.TemporaryDirectory() as folder:
            run = _RUNTIMES[backend](graph.write_encoder(modules, Path(folder) / "model.onnx"))
        return Side(tokenizer, run, encoder.limit(model, kind) or 0, model.prompts.get(kind) or "")

    return Exported(name, int(model.get_embedding_dimension() or 0), side)


def quantize_dynamically(path: Path, out: Path) -> Path:
    """Turn a graph's products with weights into 8 bits: weights per output, activations dynamically per batch."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it logs every product that it skips
    try:
        quantize_dynamic(str(path), str(out), weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
    return out


def _run_onnx_in_8_bits(path: Path) -> Run:
    return RUNTIMES["onnx"].open(quantize_dynamically(path, path.with_suffix(".int8.onnx")))


def _run_openvino(path: Path) -> Run:
    return RUNTIMES["openvino"].open(path, "bf16" if devices.has_fast_bfloat16("cpu") else "f32")


_RUNTIMES = {"onnx": _run_onnx_in_8_bits, "openvino": _run_openvino}
