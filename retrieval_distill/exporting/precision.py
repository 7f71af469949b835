"""A float32 graph -> the file of a runtime, in 32, 16 or 8 bits. To 8 bits there are several ways, none always best.

Knows graphs and runtimes; must not know models, texts or what a graph is checked on.

Sources: scales by token: Yao et al., "ZeroQuant", 2022, arXiv:2206.01861; outliers moved into the weights: Xiao et al.,
"SmoothQuant", 2022, arXiv:2211.10438.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill.student.backends import quantize_dynamically
from retrieval_distill.student.exported import Batch

Way = Callable[[Path, Path, Sequence[Batch]], object]
"""(float32 ONNX file, file to write, a sample of inputs)"""

SMALLEST = 1024
"""Numbers in a tensor from which on it is stored in 16 bits."""

MOVED = 0.7
"""How much of the range of an activation's channel is moved into the weights: SmoothQuant's alpha."""

BLOCK = 32
"""Neighbouring weights, and activations, that share a scale where scales are by block."""


def _copy(graph: Path, out: Path, batches: Sequence[Batch]) -> None:
    out.write_bytes(graph.read_bytes())


def _halve(graph: Path, out: Path, batches: Sequence[Batch]) -> None:
    """Store weights in 16 bits; ONNX Runtime, whose CPU kernels are in 32, widens them once, when it opens the file."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(graph))
    widened = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= SMALLEST:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            widened.append(helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*widened, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(out))


def _by_tensor(graph: Path, out: Path, batches: Sequence[Batch]) -> None:
    quantize_dynamically(graph, out)


def _by_token(graph: Path, out: Path, batches: Sequence[Batch]) -> None:
    """Scales by token, with the outliers of some channels moved into the weights before.

    The input of a product is divided by what each channel reaches on the sample (the weights are multiplied), then each
    row by its largest value (the result is multiplied). What is left has no outliers, and one scale for all fits it.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(graph))
    products = [node for node in model.graph.node if node.output[0] in _products(model)]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    reached = _reached(graph, sorted({node.input[0] for node in products}), batches)
    before: dict[str, list[Any]] = {}
    added = {"last_axis": np.array([-1], np.int64)}
    for given, sizes in reached.items():
        weights = [stored[node.input[1]] for node in products if node.input[0] == given]
        channels = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
        smooth = np.maximum(sizes, 1e-5) ** MOVED / np.maximum(channels, 1e-5) ** (1 - MOVED)
        added |= {f"{given}_moved": (1 / smooth).astype(np.float32)}
        for node in products:
            if node.input[0] == given:
                added[f"{node.output[0]}_weight"] = (stored[node.input[1]] * smooth[:, None]).astype(np.float32)
        before[given] = [
            helper.make_node("Mul", [given, f"{given}_moved"], [f"{given}_smooth"]),
            helper.make_node("Abs", [f"{given}_smooth"], [f"{given}_size"]),
            helper.make_node("ReduceMax", [f"{given}_size", "last_axis"], [f"{given}_scale"], keepdims=1),
            helper.make_node("Div", [f"{given}_smooth", f"{given}_scale"], [f"{given}_scaled"]),
        ]
    nodes, changed = [], {node.output[0] for node in products}
    for node in model.graph.node:
        if node.output[0] not in changed:
            nodes.append(node)
            continue
        given, result = node.input[0], node.output[0]
        nodes += [
            *before.pop(given, []),
            helper.make_node("MatMul", [f"{given}_scaled", f"{result}_weight"], [f"{result}_scaled"], node.name),
            helper.make_node("Mul", [f"{result}_scaled", f"{given}_scale"], [result]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in added.items())
    _remove_unused(model)
    prepared = out.with_suffix(".prepared")
    onnx.save(model, str(prepared))
    quantize_dynamically(prepared, out)
    prepared.unlink()


def _reached(graph: Path, names: list[str], batches: Sequence[Batch]) -> dict[str, np.ndarray]:
    """What each channel of these tensors reaches on the sample, padding left out: float32 [channels]."""
    import onnx
    import onnxruntime

    model = onnx.load(str(graph))
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = [given.name for given in session.get_inputs()]
    found: dict[str, np.ndarray] = {}
    for batch in batches:
        used = batch["attention_mask"].astype(bool)
        for name, values in zip(names, session.run(names, {key: batch[key] for key in inputs}), strict=True):
            rows = values[used] if values.shape[:2] == used.shape else values.reshape(-1, values.shape[-1])
            found[name] = np.maximum(found.get(name, 0), np.abs(rows).max(axis=0))
    return found


def _by_block(graph: Path, out: Path, batches: Sequence[Batch]) -> None:
    """Scales by blocks of :data:`BLOCK` weights and activations: the most exact, and the slowest."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(graph))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    products = _products(model)
    for node in model.graph.node:
        if node.output[0] not in products:
            continue
        given, name = node.input
        if f"{name}_blocks" not in stored:
            values = numpy_helper.to_array(stored[name])
            blocks = values.T.reshape(values.shape[1], -1, BLOCK)
            scales = np.abs(blocks).max(axis=2) / 127
            scales[scales == 0] = 1
            codes = np.clip(np.round(blocks / scales[..., None]) + 128, 0, 255).astype(np.uint8)
            for part, array in (("blocks", codes), ("scales", scales.astype(np.float32))):
                stored[f"{name}_{part}"] = numpy_helper.from_array(array, f"{name}_{part}")
                model.graph.initializer.append(stored[f"{name}_{part}"])
        inputs, outputs = stored[name].dims
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits", [given, f"{name}_blocks", f"{name}_scales"], list(node.output), node.name,
                domain="com.microsoft", K=inputs, N=outputs, bits=8, block_size=BLOCK, accuracy_level=4,
            )
        )  # fmt: skip
    _remove_unused(model)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(out))


def _remove_unused(model: Any) -> None:
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _products(model: Any) -> set[str]:
    """Names of the outputs of products with a matrix of weights whose rows are whole blocks."""
    graph = model.graph
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    matrices = {name for name, size in sizes.items() if len(size) == 2 and size[0] % BLOCK == 0}
    return {node.output[0] for node in graph.node if node.op_type == "MatMul" and node.input[1] in matrices}


def _to_openvino(compress: bool) -> Way:
    def way(graph: Path, out: Path, batches: Sequence[Batch]) -> None:
        import openvino

        openvino.save_model(openvino.Core().read_model(str(graph)), str(out), compress_to_fp16=compress)

    return way


def _calibrated(graph: Path, out: Path, batches: Sequence[Batch]) -> None:
    """Weights by output, activations by scales fixed on the sample, with outliers moved into the weights."""
    nncf = _nncf()
    import openvino

    with redirect_stdout(StringIO()):  # its progress bars
        quantized = nncf.quantize(
            openvino.Core().read_model(str(graph)), nncf.Dataset(list(batches)), subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER,
        )  # fmt: skip
    openvino.save_model(quantized, str(out), compress_to_fp16=False)


def _weights(graph: Path, out: Path, batches: Sequence[Batch]) -> None:
    """Weights by output; activations in 8 bits by groups, as they come, where the processor is fast at that."""
    nncf = _nncf()
    import openvino

    model = openvino.Core().read_model(str(graph))
    with redirect_stdout(StringIO()):
        smaller = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(smaller, str(out), compress_to_fp16=False)


def _nncf() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # or it reports each use to its vendor
    import nncf

    nncf.set_log_level(40)
    return nncf


WAYS: dict[tuple[str, str], dict[str, Way]] = {
    ("onnx", "float32"): {"exact": _copy},
    ("onnx", "float16"): {"weights": _halve},
    ("onnx", "int8"): {"tensor": _by_tensor, "token": _by_token, "block": _by_block},
    ("openvino", "float32"): {"exact": _to_openvino(False)},
    ("openvino", "float16"): {"weights": _to_openvino(True)},
    ("openvino", "int8"): {"calibrated": _calibrated, "weights": _weights},
}
"""Runtime and dtype -> the ways to it, by name."""
