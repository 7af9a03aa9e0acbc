# Each command sets up .venv by itself when it is missing or older than requirements.txt or pyproject.toml.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
REQUIREMENTS ?= requirements.txt
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))

.PHONY: lab figures test weekly lint book fast newest oldest
lab: $(VENV)/ready
	$(BIN)/jupyter lab notebooks

# Every notebook in order, each in a fresh kernel, in place; stops at the first cell that fails and shows its error.
# A figure that comes out the same is left alone; the others are named at the end.
figures: $(VENV)/ready
	@touch $(VENV)/started
	@set -e; for notebook in $(NOTEBOOKS); do \
		echo "$$notebook"; \
		TQDM_DISABLE=1 $(BIN)/jupyter nbconvert --log-level=ERROR --to notebook --execute --inplace \
			--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False $$notebook; \
		$(BIN)/python .ci/still.py $$notebook; \
	done
	@echo "figures rewritten:"; find figures -newer $(VENV)/started -name "*.png"

# The notebooks as a web site, from the outputs they hold: build/book/index.html. A warning or a broken link is an error.
book: $(VENV)/ready
	$(BIN)/sphinx-build -W --keep-going -q notebooks build/book

test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup

# What takes longest, once a week: the whole text of 08, whose sample every `make test` runs.
weekly: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -m weekly

# What a few minutes can tell: no notebook is run, no browser opened.
fast: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup -m "not slow and not weekly" --ignore-glob "*browser*" \
		--ignore tests/test_notebooks.py --ignore tests/test_book.py

# The same with the newest versions that the ranges of pyproject.toml allow, and with the oldest.
newest: build/newest.txt
	$(MAKE) fast VENV=build/newest REQUIREMENTS=$<

oldest: build/oldest.txt
	$(MAKE) fast VENV=build/oldest REQUIREMENTS=$<

build/newest.txt: requirements.txt
	mkdir -p build
	sed "s/==[^ ]*//" $< >$@

build/oldest.txt: requirements.txt pyproject.toml
	mkdir -p build
	$(PYTHON) .ci/floors.py >$@

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: $(REQUIREMENTS) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r $(REQUIREMENTS)
	touch $@
