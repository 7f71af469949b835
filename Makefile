# Set-up, demo, tests and checks on a fresh machine; everything lives in .venv.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check docs dist matrix audit clean

demo: .venv/ready
	$(BIN)/retrieval-distill demo --out runs/demo

test: .venv/ready-test
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n auto --dist loadfile --no-loadscope-reorder

check: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python scripts/docs_examples.py

dist:
	$(PYTHON) scripts/dist.py

matrix:
	$(PYTHON) scripts/matrix.py

# known holes of the tested versions (asks PyPI's advisories), and the licences of what an installation brings along
audit: .venv/ready-test
	$(BIN)/python scripts/licences.py demo test
	$(PYTHON) -m venv --clear build/audit
	build/audit/bin/pip install --quiet pip-audit
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# torch comes first, at the exact version: a bare range would fetch the largest build there is
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo]'
	touch $@

.venv/ready-test: .venv/ready
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

.venv/ready-docs: .venv/ready
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
