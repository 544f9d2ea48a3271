# `make help` lists the targets. All of them work in a virtual environment of their own, .venv, made on first use.
#
#   PYTHON=...     interpreter for .venv, 3.11 or newer (the pinned versions are tested on 3.11)
#   PIP_ARGS=...   further arguments for every `pip install`, e.g. an index of CPU builds of PyTorch
#   RETINA_DATA=.. folder with public data sets; tests on real data are skipped without it

ifndef PYTHON
PYTHON := $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
endif

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 8

demo: $(VENV)/.installed ## install, then run the bundles on pictures drawn here; results in demo_output/
	$(BIN)/retina demo

test: lint ## lint, then all tests
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed ## measure the speed, as ratios taken in one run
	$(BIN)/retina benchmark

clean: ## remove .venv, caches and the output of demo and bench
	rm -rf $(VENV) demo_output benchmark.md build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The stamps: a step runs again only when the files that it depends on have changed.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not (or is not there)." \
			"Install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: requirements.txt pyproject.toml $(VENV)/.created
	@echo "Installing PyTorch, MONAI and the other requirements into $(VENV): takes about 2 to 4 minutes."
	@$(PIP) -r requirements.txt
	@touch $@
	@echo "Installed."

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing pytest, ruff and mypy into $(VENV): takes less than a minute."
	@$(PIP) -r requirements-dev.txt
	@touch $@
