# `make demo` and `make test` do everything on a fresh machine; both create .venv first.
export OMP_NUM_THREADS := 1
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: space screenshots docs chaos fuzz clients matrix checkpoints demo test style bench gallery golden options readme cards release clean clean-cache

demo: $(STAMP)  ## the whole comparison on the embedded data, CPU only
	$(BIN)/synpre run examples/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

style: $(STAMP)  ## format, lint, check the types
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/mypy && cd space && MYPYPATH=.. ../$(BIN)/mypy --config-file ../pyproject.toml .

bench: $(STAMP)  ## every speed claim, each against a peer of the same run
	for script in $(filter-out benchmarks/chaos%.py benchmarks/fuzz.py benchmarks/clients.py benchmarks/replaced_tokens.py, $(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

chaos: $(STAMP)  ## runs that are killed a hundred times, full disks and the like (an hour)
	$(BIN)/python benchmarks/chaos.py --kills 100

fuzz: $(STAMP)  ## 20,000 broken or hostile inputs (half an hour)
	$(BIN)/python benchmarks/fuzz.py --examples 20000

clients:  ## other people's programs on our models; it installs them, from a package index
	$(PYTHON) benchmarks/clients.py --environment runs/clients

matrix: $(STAMP)  ## a selection of the tests on every Python that is here, newest and lowest versions (downloads them)
	$(BIN)/pip install -q -c constraints.txt nox
	$(BIN)/nox

space: $(STAMP)  ## the page on http://127.0.0.1:7860: tasks, parameter statistics, results
	$(BIN)/python space/app.py

screenshots: $(STAMP)  ## docs/images/space_*.webp, with Chromium
	$(BIN)/pip install -q -c constraints.txt playwright
	$(BIN)/python space/screenshots.py

gallery: $(STAMP)  ## examples/GALLERY.md and its pictures, from the registry
	$(BIN)/python examples/gallery.py
	$(BIN)/python examples/gallery_pictures.py

docs: $(STAMP) docs/five_minutes.md  ## the site of the documents in site/, strictly
	$(BIN)/python docs/drawings.py
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --strict

# Its commands are executed again where the package, the script or their data are newer than the page.
docs/five_minutes.md: docs/five_minutes.py examples/own_task.yaml $(shell find hf_synpre examples/data/imports results/quickstart -name "*.py" -o -name "*.csv" -o -name "*.json")
	$(BIN)/python docs/five_minutes.py

options: $(STAMP)  ## docs/options.md from the dataclasses of the YAML
	$(BIN)/python docs/options.py

golden: $(STAMP)  ## tests/golden.json: the hashes of the first rows a task and version
	$(BIN)/python -m tests.golden

readme: $(STAMP)  ## the tables of README.md, docs/, results/ and benchmarks/ from their JSON
	$(BIN)/python examples/readme.py

checkpoints: $(STAMP)  ## pre-train what model_cards/checkpoints.yaml releases (hours)
	$(BIN)/python model_cards/make.py

cards: $(STAMP)  ## model_cards/*/README.md from the JSON files in hf_synpre/statistics/
	$(BIN)/python model_cards/render.py

release: $(STAMP)  ## prints what would be published on the Hub; PUBLISH=1 does it
	$(BIN)/python dataset_scripts/release.py $(if $(PUBLISH),--publish)

$(STAMP): setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e .[test,dev,docs]
	touch $(STAMP)

clean-cache:  ## after an edit of compiled functions that other modules import
	find hf_synpre tests -name "*.nb[ci]" -delete

clean:
	rm -rf .venv .nox runs build dist *.egg-info
