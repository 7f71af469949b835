"""Runs a bi-encoder's transformer in another runtime than PyTorch, in 8 or 16 bits.

The transformer is exported with PyTorch's own exporter, because Optimum, which sentence-transformers uses, does not
support transformers 5. Tokenisation, pooling and normalisation do not change. Knows runtimes and modules; must not know
texts or which runtime is fastest.

    onnx       ONNX Runtime, linear layers in 8 bits (weights per output, activations dynamically per batch)
    openvino   OpenVINO, in bfloat16 if this CPU supports it natively, else in float32
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from retrieval_distill.errors import UserError, nearest
from retrieval_distill.hardware import devices
from retrieval_distill.student import encoder

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(token ids, mask), int64 [texts, tokens] -> last hidden states, float32 [texts, tokens, dimensions]."""

PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
"""Packages each runtime needs; this package's extras are named after the runtimes."""


def installed_backends() -> list[str]:
    """The runtimes installed, besides PyTorch."""
    return [name for name, packages in PACKAGES.items() if all(map(find_spec, packages))]


def load(name: str, backend: str, max_length: int | None = None) -> SentenceTransformer:
    """Load a bi-encoder like ``encoder.load``, with its transformer in another runtime.

    Args:
        name: See :func:`retrieval_distill.models.resolve`.
        backend: ``"onnx"`` or ``"openvino"``.
        max_length: Token limit; ``None``: the model's own.

    Raises:
        UserError: The runtime is unknown or not installed, or the model is not a single transformer.
    """
    if backend not in PACKAGES:
        raise UserError(f"backend {backend!r} is unknown{nearest(backend, ['torch', 'auto', *PACKAGES])}")
    if backend not in installed_backends():
        raise UserError(f"backend {backend!r} needs: pip install 'retrieval-distill[{backend}]'")
    model = encoder.load(name, "float32", max_length)
    if not encoder.is_plain(model) or devices.device() != "cpu":
        raise UserError(f"backend {backend!r} supports only models with one transformer, on a CPU; use --backend torch")
    first: Any = model[0]
    with tempfile.TemporaryDirectory() as folder:
        first.model = ExternalTransformer(
            first.model, _RUNTIMES[backend](export_onnx(first.model, Path(folder) / "transformer.onnx"))
        )
    return model


class ExternalTransformer(nn.Module):
    """Replaces a transformer in a bi-encoder."""

    def __init__(self, transformer: Any, run: Run) -> None:
        super().__init__()
        self.config = transformer.config
        self._run = run
        self._dtype = nn.Parameter(torch.zeros(0), requires_grad=False)  # the caller reads the dtype

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Any) -> dict[str, Tensor]:
        """Returns only the last hidden states, which are all that pooling needs."""
        return {"last_hidden_state": torch.from_numpy(self._run(input_ids.numpy(), attention_mask.numpy()))}


class _LastHidden(nn.Module):
    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        transformer.set_attn_implementation("eager")
        for module in transformer.modules():
            if isinstance(module, nn.Linear):
                module.__class__ = nn.Linear  # the class that exporters know

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


INPUTS = ["input_ids", "attention_mask"]


@torch.no_grad()
def export_onnx(transformer: Any, path: Path) -> Path:
    """Export a transformer to a float32 ONNX file: twice int64 [texts, tokens] -> float32 [texts, tokens, size]."""
    axes = {name: {0: "texts", 1: "tokens"} for name in [*INPUTS, "last_hidden_state"]}
    example = torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values traced as constants; tests check the result
        torch.onnx.export(
            _LastHidden(transformer), example, str(path), input_names=INPUTS, output_names=["last_hidden_state"],
            dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
    return path


def open_onnx(path: Path) -> Run:
    """Open an ONNX file in ONNX Runtime, on the CPU, with as many threads as PyTorch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def _run_onnx_in_8_bits(path: Path) -> Run:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_suffix(".int8.onnx")
    logging.disable(logging.WARNING)  # it logs every product that it skips
    try:
        quantize_dynamic(str(path), str(small), weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
    return open_onnx(small)


def _run_openvino(path: Path) -> Run:
    import openvino

    precision = "bf16" if devices.has_fast_bfloat16("cpu") else "f32"
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    # from a file, because openvino.convert_model, which takes a module, reports each use to its vendor
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return lambda ids, mask: np.array(compiled([ids, mask])[0])


_RUNTIMES: dict[str, Callable[[Path], Run]] = {"onnx": _run_onnx_in_8_bits, "openvino": _run_openvino}
