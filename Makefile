# `make demo` and `make test` do everything on a fresh machine; both create .venv first.
export OMP_NUM_THREADS := 1
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test style bench gallery golden results clean

demo: $(STAMP)  ## the whole comparison on the embedded data, CPU only
	$(BIN)/synpre run examples/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest

style: $(STAMP)
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(STAMP)  ## every speed claim, each against a peer of the same run
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

$(STAMP): setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e .[test,dev]
	touch $(STAMP)

clean:
	rm -rf .venv runs build dist *.egg-info
