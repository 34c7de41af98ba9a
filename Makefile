# Everything runs in .venv, made from requirements.lock by the first target that needs it.
PYTHON ?= python3
# Processes of `make test`; each takes about 2 GB of memory.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo demo-ablation test coverage lint types format clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: demo/data/dataset.json ## make volumes, train on them, segment and score unseen ones
	rm -rf demo/run demo/predictions
	$(BIN)/python train.py --config phantom.yaml --data.root demo/data \
		--data.cache_dir demo/cache --output_dir demo/run
	$(BIN)/python infer.py --checkpoint demo/run/best.pt --input demo/data/imagesTr --part test \
		--labels demo/data/labelsTr --output demo/predictions --statistics --report

demo-ablation: demo/data/dataset.json ## train the demo with 0, 1, 2 and 3 skip connections
	$(BIN)/python ablate.py --config phantom.yaml --data.root demo/data \
		--data.cache_dir demo/cache --study skips --train.epochs 6 \
		--output_dir demo/ablation --runs_dir demo/ablation/runs

PYTEST = PYTHONUTF8=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) \
	--dist loadfile --no-loadscope-reorder

test: lint types ## lint, check types, run all tests
	$(PYTEST)

coverage: $(INSTALLED) ## run all tests and report coverage: half as long again
	$(PYTEST) --cov

lint: $(INSTALLED) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## check types
	$(BIN)/mypy swin_unet datasets

format: $(INSTALLED) ## format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the demo and all caches; keeps .venv and runs/
	rm -rf demo build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find swin_unet datasets tests -name __pycache__ -prune -exec rm -rf {} +

demo/data/dataset.json: datasets/abdomen.py $(wildcard datasets/phantom*.py) | $(INSTALLED)
	$(BIN)/python -m datasets.phantom demo/data --cases 30

$(INSTALLED): requirements.lock
	@command -v $(PYTHON) > /dev/null || { \
		echo "error: no $(PYTHON) found. Install Python 3.11 or newer," \
			"or say 'make PYTHON=/path/to/python'." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: Python 3.11 or newer is needed, $(PYTHON) is" \
			"$$($(PYTHON) --version 2>&1). Say 'make PYTHON=python3.11'." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "error: $(PYTHON) cannot make virtual environments." \
			"On Debian and Ubuntu: apt install python3-venv." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.lock
	@touch $@
