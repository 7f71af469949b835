"""What an export's folder tells people: a card to read, and an example that runs.

Knows the card; must not know models or graphs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill.exporting import check
from retrieval_distill.runtime.files import write_text
from retrieval_distill.student.exported import RUNTIMES

EXAMPLE = "example.py"

_HEAD = '''"""{does}: python example.py QUERY DOCUMENT...

Needs {package}, tokenizers and numpy alone.
"""

import json
import sys
from pathlib import Path

import numpy as np
import {package}
from tokenizers import Tokenizer

folder = Path(__file__).parent
card = json.loads((folder / "export.json").read_text())
'''

_OPEN = {
    "onnx": (
        "onnxruntime",
        "onnxruntime.InferenceSession(file)",
        "graph.run([graph.get_outputs()[-1].name], features)[0]",
    ),
    "openvino": (
        "openvino",
        'openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
        "graph(features)[len(graph.outputs) - 1]",
    ),
}
"""Runtime -> its package, how it opens a file, and how a graph is run."""

_ENCODE = '''

def encode(texts, kind):
    """Vectors of texts of a kind, "query" or "document"."""
    made = card["encoders"][kind]
    tokenizer = Tokenizer.from_file(str(folder / made["folder"] / "tokenizer.json"))
    file = str(folder / made["folder"] / "{file}")
    graph = {open}
    encoded = tokenizer.encode_batch([made["prompt"] + text for text in texts])
    features = {{"input_ids": [e.ids for e in encoded], "attention_mask": [e.attention_mask for e in encoded]}}
    features = {{name: np.array(values, np.int64) for name, values in features.items()}}
    return {run}


query, *documents = sys.argv[1:]
scores = encode([query], "query") @ encode(documents, "document").T
for place in np.argsort(-scores[0]):
    print(f"{{scores[0][place]:.4f}}\\t{{documents[place]}}")
'''

_SCORE = """tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
file = str(folder / "{file}")
graph = {open}
query, *documents = sys.argv[1:]
encoded = tokenizer.encode_batch([(query, document) for document in documents])
features = {{"input_ids": [e.ids for e in encoded], "attention_mask": [e.attention_mask for e in encoded]}}
if card["has_types"]:
    features["token_type_ids"] = [e.type_ids for e in encoded]
features = {{name: np.array(values, np.int64) for name, values in features.items()}}
scores = {run}
for place in np.argsort(-scores):
    print(f"{{scores[place]:.4f}}\\t{{documents[place]}}")
"""


def write(folder: Path, card: dict[str, Any], size: int, seconds: dict[str, float]) -> None:
    """Write ``example.py`` and ``README.md``.

    Args:
        folder: The export.
        card: Its card.
        size: Bytes of its graphs.
        seconds: CPU seconds that the sample took, by what computed it.
    """
    write_text(folder / EXAMPLE, example(card))
    write_text(folder / "README.md", _readme(card, size, seconds))


def example(card: dict[str, Any]) -> str:
    """A program that ranks documents for a query with the export alone."""
    package, opened, run = _OPEN[card["runtime"]]
    pairs = card["kind"] == "cross-encoder"
    head = _HEAD.format(
        does="Scores documents for a query" if pairs else "Ranks documents for a query", package=package
    )
    body = (_SCORE if pairs else _ENCODE).format(file=RUNTIMES[card["runtime"]].file, open=opened, run=run)
    return head + body


def _readme(card: dict[str, Any], size: int, seconds: dict[str, float]) -> str:
    runtime, kind, name = card["runtime"], card["kind"], card["model"]["name"]
    lengths = ", ".join(f"{part}: {made['max_length']} tokens" for part, made in card["encoders"].items())
    prompts = "".join(
        f"\n* The prompt of a {part} is {made['prompt']!r}; the example puts it first."
        for part, made in card["encoders"].items()
        if made["prompt"]
    )
    fastest = "\n".join(f"| {what} | {value:.2f} |" for what, value in seconds.items())
    doubt = "" if card["passed"] or card["dtype"] != "int8" else (
        f"\n\n**It ranks worse than is asked for ({check.demand(card['checked'])}), and was written all the same.**"
    )  # fmt: skip
    library = (
        f'`SentenceTransformer(FOLDER, backend="{runtime}")` finds the graph too, where a version of Optimum supports '
        "the installed transformers; it takes the hidden states and pools them itself."
        if kind == "bi-encoder"
        else f'`CrossEncoder(FOLDER, backend="{runtime}")` finds the graph too, where a version of Optimum supports '
        "the installed transformers."
    )
    if not card["read_by_sentence_transformers"]:
        library = "sentence-transformers' own backends cannot read it: queries and documents have separate graphs."
    name = Path(name).name if Path(name).is_absolute() else name  # folders here say nothing elsewhere
    return f"""# {Path(name).name or name}, exported to {runtime} in {card["dtype"]}

A {kind}, {size / 1e6:.1f} MB, made of `{name}`: one graph each for what it reads, from token ids to {
        "raw scores" if kind == "cross-encoder" else "vectors: transformer, pooling, projection and normalisation"
    }. It runs without PyTorch:

    pip install {"onnxruntime" if runtime == "onnx" else "openvino"} tokenizers
    python example.py "how to read a file" "open() returns a file object" "a list is a sequence"

* Texts are cut ({lengths}), as `tokenizer.json` says.{prompts}
* {library}

## Checked

{check.sentence(card["checked"])}.{doubt}

| what computed the sample | CPU seconds |
|---|---:|
{fastest}

Instructions of the processor: {", ".join(card["instructions"]) or "unknown"}. The figures are in `export.json`, the
seconds in `manifest.json`.
"""
