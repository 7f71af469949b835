"""What libraries would print is not printed, and what a user had set holds afterwards."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from transformers.utils import logging as of_transformers

from retrieval_distill.runtime import quiet

DRIVER = """
import json, logging, sys
import retrieval_distill as rd
from retrieval_distill.config import parse_recipe
logging.getLogger("retrieval_distill").disabled = True  # what the toolkit itself warns of
rd.run(parse_recipe(json.load(open(sys.argv[1]))), out=sys.argv[2])
"""


def test_of_a_run_in_python_no_library_prints_anything(tiny_recipe, tmp_path):
    """Bi-encoder, cross-encoder, training, checkpoints, report: no bar, no line of a library, on either stream."""
    teacher = {
        "ensemble": [
            {"model": tiny_recipe["teacher"]["model"], "max_length": 48},
            {"model": f"bi-encoder:{tiny_recipe['student']['model']}"},
        ]
    }
    values = {**tiny_recipe, "teacher": teacher, "compress": [{"layers": "first:2", "steps": 1}]}
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    driver = [sys.executable, "-c", DRIVER, tmp_path / "recipe.json", tmp_path / "run"]
    done = subprocess.run(driver, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    assert (done.stdout, done.stderr) == ("", "")


def test_what_was_set_holds_again(monkeypatch):
    before = of_transformers.get_verbosity(), of_transformers.is_progress_bar_enabled()
    loud = logging.getLogger("sentence_transformers")
    monkeypatch.setattr(loud, "level", logging.INFO)
    with quiet.libraries():
        assert loud.level == logging.ERROR and not of_transformers.is_progress_bar_enabled()
    assert loud.level == logging.INFO
    assert (of_transformers.get_verbosity(), of_transformers.is_progress_bar_enabled()) == before
