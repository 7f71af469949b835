"""The Python interface as people use it: a plain script without a guard, and a notebook in which progress shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import retrieval_distill as rd

data = rd.load_dataset(DATASET)
teacher = rd.load_teacher(TEACHER)
pool = rd.retrieve(data.queries("train"), data.documents, depth=30)
scored = rd.score(pool, data, teacher=teacher, store="scores")
student = rd.distill(scored, data, model=MODEL, out="student", training={"steps": 4, "bf16": False})
vectors = rd.embed(data.documents, student, out="vectors")
index = rd.index(vectors, recall=0.95)
searcher = rd.Searcher(student, index, data)
for hit in searcher("how do I read a file line by line", depth=5):
    print(hit.id, hit.score, hit.snippet)
bm25, run = rd.retrieve(data.queries("test"), data), rd.search(data.queries("test"), index, model=student)
report = rd.evaluate({"bm25": bm25, "student": run}, data.qrels("test"))
print(report)
report.to_pandas(); report.to_latex(); report["student"]["nDCG@10"].interval
for noun in (data, pool, student, vectors, index, searcher):
    print(repr(noun))
for noun, folder in ((rd.Student, "student"), (rd.Embeddings, "vectors"), (rd.Index, "vectors-index")):
    assert repr(noun.open(folder)) == repr({"student": student, "vectors": vectors, "vectors-index": index}[folder])
"""


@pytest.fixture(scope="module")
def names(dataset_folder, cross_encoders, encoders) -> dict[str, str]:
    return {"DATASET": dataset_folder, "TEACHER": cross_encoders["bert"], "MODEL": encoders["distilbert"]}


def test_a_script_without_a_guard(names, tmp_path):
    """Every act of a small retriever, from another working directory; silent but for what the script prints."""
    script = tmp_path / "script.py"
    script.write_text("".join(f"{name} = {value!r}\n" for name, value in names.items()) + SCRIPT)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("d")]) == 5
    assert "nDCG@10 (95 %)" in done.stdout and "│ student" in done.stdout
    shown = lines[-6:]
    assert shown[0] == "Dataset('tiny': 60 documents, 40 queries; judged: dev 6, test 10, train 24)"
    assert [line.partition("(")[0] for line in shown] == [
        "Dataset",
        "Run",
        "Student",
        "Embeddings",
        "Index",
        "Searcher",
    ]


def test_python_docs_loads_in_a_script_without_a_guard(tmp_path):
    """Its docstrings are read by several processes, which must not run the script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from retrieval_distill.data import docstrings\n"
        "import json\n"
        "print(len(docstrings.read_files([('json', json.__file__)] * 3)) > 0)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "once\nTrue\n"), done.stderr


def test_progress_shows_in_a_notebook(names, tmp_path):
    """Silent until it is asked for, and then a bar."""
    import nbformat
    from nbclient import NotebookClient

    cells = [
        f"import retrieval_distill as rd\ndata = rd.load_dataset({names['DATASET']!r})",
        f"silent = rd.embed(data.documents, {names['MODEL']!r}, out='one')",
        "rd.show_progress()",
        f"rd.embed(data.documents, {names['MODEL']!r}, out='two')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = ["".join(str(output) for output in cell.outputs) for cell in notebook.cells]
    assert "embedding documents" not in shown[1]
    assert "embedding documents" in shown[3] and "60/60" in shown[3]
    assert "Embeddings('two', 60 documents, 32 dimensions)" in shown[3]
