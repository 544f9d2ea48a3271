# `make help` lists the targets. All of them work in a virtual environment of their own, .venv, made on first use; those of
# the MONAI Label app in another one, .venv-label.
#
#   PYTHON=...     interpreter for both, 3.11 or newer (the pinned versions are tested on 3.11)
#   PIP_ARGS=...   further arguments for every `pip install`, e.g. an index of CPU builds of PyTorch
#   RETINA_DATA=.. folder with public data sets; tests on real data are skipped without it
#   STUDIES=...    folder of photos for `make label-server` (default: studies)
#   MODELS=...     bundles that it serves, separated by commas (default: all)
#   PORT=...       where it listens on this machine (default: 8000)

ifndef PYTHON
PYTHON := $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
endif

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)

LABEL_VENV := .venv-label
LABEL_BIN := $(LABEL_VENV)/bin
LABEL_PIP := $(LABEL_BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
LABEL_TESTS := apps/monailabel/tests tests/common/label tests/common/test_pixels.py tests/common/test_pictures.py \
	tests/common/readers tests/common/transforms tests/common/handlers/test_inference.py tests/common/inferers \
	tests/common/metrics
STUDIES := studies
MODELS := all
PORT := 8000

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-core test-label lint bench label label-server clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.installed ## install, then run the bundles on pictures drawn here; results in demo_output/
	$(BIN)/retina demo

test: lint test-core test-label ## lint, then all tests, those of the MONAI Label app in its own environment

test-core: $(VENV)/.installed-dev ## the tests of common, data_lists and the bundles
	$(BIN)/python -m pytest

test-label: $(LABEL_VENV)/.installed-dev ## the tests of the MONAI Label app, and of what it uses of common
	$(LABEL_BIN)/python -m pytest $(LABEL_TESTS)

label: $(LABEL_VENV)/.installed ## install MONAI Label and what its app needs into .venv-label

label-server: $(LABEL_VENV)/.installed ## serve the photos in STUDIES to annotators on this machine
	MONAI_LABEL_CORS_ORIGINS='["http://127.0.0.1:$(PORT)"]' $(LABEL_BIN)/python -m monailabel.main start_server \
		--app apps/monailabel --studies $(STUDIES) --host 127.0.0.1 --port $(PORT) --conf models $(MODELS)

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy apps # by itself: its tests are a package `tests` too

bench: $(VENV)/.installed ## measure the speed, as ratios taken in one run
	$(BIN)/retina benchmark

clean: ## remove both environments, caches and the output of demo and bench
	rm -rf $(VENV) $(LABEL_VENV) demo_output benchmark.md build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The stamps: a step runs again only when the files that it depends on have changed.
$(VENV)/.created $(LABEL_VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not (or is not there)." \
			"Install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(@D)
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

$(LABEL_VENV)/.installed: apps/monailabel/requirements-build.txt apps/monailabel/requirements.txt pyproject.toml \
		$(LABEL_VENV)/.created
	@echo "Installing MONAI Label into $(LABEL_VENV): takes about 2 to 4 minutes."
	@$(LABEL_PIP) -r apps/monailabel/requirements-build.txt
	@SAM2_BUILD_CUDA=0 $(LABEL_PIP) --no-build-isolation -r apps/monailabel/requirements.txt
	@$(LABEL_PIP) --no-build-isolation --no-deps -e .
	@touch $@
	@echo "Installed."

$(LABEL_VENV)/.installed-dev: apps/monailabel/requirements-dev.txt $(LABEL_VENV)/.installed
	@$(LABEL_PIP) --no-build-isolation -r apps/monailabel/requirements-dev.txt
	@touch $@
