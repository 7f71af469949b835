"""A small compression as a program, so that tests can kill it: python -m tests.compress.driver JOB.json FOLDER STEP"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from retrieval_distill import api
from retrieval_distill.data.formats import beir
from tests.training.driver import die_after

if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    die_after(int(sys.argv[3]))
    api.compress(beir.load(job["dataset"]).documents, out=sys.argv[2], **job["options"])
