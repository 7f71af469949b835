"""A bi-encoder's transformer in another runtime, in 8 or 16 bits, in place of PyTorch's.

The transformer is written out by PyTorch's own exporter, because Optimum, which sentence-transformers goes through,
allows no transformers 5. Tokens, pooling and normalisation stay as they are. Knows runtimes and modules; must not know
texts or which runtime is the fastest.

    onnx       ONNX Runtime, linear layers in 8 bits (weights per output once, activations per batch as they come)
    openvino   OpenVINO, in bfloat16 where this CPU multiplies it natively, else in float32
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
"""Token ids and mask, int64 [texts, tokens], to the last hidden states, float32 [texts, tokens, dimensions]."""

PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
"""What each runtime needs; the extras of this package have the runtimes' names."""


def installed() -> list[str]:
    """The runtimes that are there, besides PyTorch."""
    return [name for name, packages in PACKAGES.items() if all(map(find_spec, packages))]


def load(name: str, backend: str, max_length: int | None = None) -> SentenceTransformer:
    """A bi-encoder, as ``encoder.load`` gives it, whose transformer works in another runtime.

    Args:
        name: See :func:`retrieval_distill.models.resolve`.
        backend: ``"onnx"`` or ``"openvino"``.
        max_length: Token limit; ``None`` keeps the model's own.

    Raises:
        UserError: The runtime is unknown or not installed, or the model does not consist of one transformer.
    """
    if backend not in PACKAGES:
        raise UserError(f"backend {backend!r} is unknown{nearest(backend, ['torch', 'auto', *PACKAGES])}")
    if backend not in installed():
        raise UserError(f"backend {backend!r} needs: pip install 'retrieval-distill[{backend}]'")
    model = encoder.load(name, "float32", max_length)
    if not encoder.is_plain(model) or devices.device() != "cpu":
        raise UserError(f"backend {backend!r} takes a model of one transformer on a CPU; use --backend torch")
    first: Any = model[0]
    with tempfile.TemporaryDirectory() as folder:
        first.model = Graph(first.model, _RUNTIMES[backend](write(first.model, Path(folder) / "transformer.onnx")))
    return model


class Graph(nn.Module):
    """Stands where a transformer stood."""

    def __init__(self, transformer: Any, run: Run) -> None:
        super().__init__()
        self.config = transformer.config
        self._run = run
        self._dtype = nn.Parameter(torch.zeros(0), requires_grad=False)  # asked for by what calls it

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Any) -> dict[str, Tensor]:
        """The library asks for more than is needed; only the last hidden states are pooled."""
        return {"last_hidden_state": torch.from_numpy(self._run(input_ids.numpy(), attention_mask.numpy()))}


class _LastHidden(nn.Module):
    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        transformer.set_attn_implementation("eager")
        for module in transformer.modules():
            if isinstance(module, nn.Linear):
                module.__class__ = nn.Linear  # as exporters know it

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


INPUTS = ["input_ids", "attention_mask"]


@torch.no_grad()
def write(transformer: Any, path: Path) -> Path:
    """Write a transformer as an ONNX file in float32: int64 [texts, tokens] twice to float32 [texts, tokens, size]."""
    axes = {name: {0: "texts", 1: "tokens"} for name in [*INPUTS, "last_hidden_state"]}
    example = torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter tells which values it takes for constants; tests hold the result
        torch.onnx.export(
            _LastHidden(transformer), example, str(path), input_names=INPUTS, output_names=["last_hidden_state"],
            dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
    return path


def run_onnx(path: Path) -> Run:
    """ONNX Runtime with an ONNX file, on the CPU, with as many threads as PyTorch takes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def _run_onnx_in_8_bits(path: Path) -> Run:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_suffix(".int8.onnx")
    logging.disable(logging.WARNING)  # it tells of every product that it leaves alone
    try:
        quantize_dynamic(str(path), str(small), weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
    return run_onnx(small)


def _run_openvino(path: Path) -> Run:
    import openvino

    precision = "bf16" if devices.has_fast_bfloat16("cpu") else "f32"
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    # read from a file, for openvino.convert_model, which takes a module, reports each use to its vendor
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return lambda ids, mask: np.array(compiled([ids, mask])[0])


_RUNTIMES: dict[str, Callable[[Path], Run]] = {"onnx": _run_onnx_in_8_bits, "openvino": _run_openvino}
