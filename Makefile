# Each command sets up .venv by itself when it is missing or older than requirements.txt or pyproject.toml.
PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))

.PHONY: lab figures test lint book
lab: .venv/ready
	$(BIN)/jupyter lab notebooks

# A widget without its kernel shows an error where its html, the same view, would be alive: only the html is kept.
define STILL
import sys, nbformat
WIDGET = "application/vnd.jupyter.widget-view+json"
notebook = nbformat.read(sys.argv[1], 4)
for cell in filter(lambda cell: cell.cell_type == "code", notebook.cells):
    cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {}) or "text/html" in o.data]
    for output in cell.outputs:
        output.get("data", {}).pop(WIDGET, None)
nbformat.write(notebook, sys.argv[1])
endef
export STILL

# Every notebook in order, each in a fresh kernel, in place; stops at the first cell that fails and shows its error.
# A figure that comes out the same is left alone; the others are named at the end.
figures: .venv/ready
	@touch .venv/started
	@set -e; for notebook in $(NOTEBOOKS); do \
		echo "$$notebook"; \
		TQDM_DISABLE=1 $(BIN)/jupyter nbconvert --log-level=ERROR --to notebook --execute --inplace \
			--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False $$notebook; \
		$(BIN)/python -c "$$STILL" $$notebook; \
	done
	@echo "figures rewritten:"; find figures -newer .venv/started -name "*.png"

# The notebooks as a web site, from the outputs they hold: build/book/index.html. A warning or a broken link is an error.
book: .venv/ready
	$(BIN)/sphinx-build -W --keep-going -q notebooks build/book

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@
