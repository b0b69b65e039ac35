# One command does everything on a fresh machine with Python 3.11 (or later) and make:
#   make demo    a simulated plant through the whole loop
#   make stack   PostgreSQL, Prefect, MLflow and a worker on this machine
#   make test    style, types and every test
# Other Pythons: make demo PYTHON=/path/to/python3.12

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check

export DO_NOT_TRACK = true
export MLFLOW_DISABLE_TELEMETRY = true
export PREFECT_SERVER_ANALYTICS_ENABLED = false

.PHONY: demo stack test fast lint venv clean
.DEFAULT_GOAL := demo

demo: $(READY)  ## a simulated plant, from sensor files to verdicts
	@$(BIN)/vae-anomaly demo

stack: $(READY)  ## PostgreSQL, Prefect, MLflow and a worker, until Ctrl-C
	@$(BIN)/vae-anomaly stack up --foreground

# a worker a core: threads of its own would only get in the way of the others
test fast: export OMP_NUM_THREADS := 1

test: lint  ## style, types and every test, slow ones too
	$(BIN)/python -m pytest -m "" -n auto --dist worksteal

fast: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -n auto

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

venv: $(READY)  ## only the virtual environment

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "vae-anomaly needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Try: make PYTHON=/path/to/python3.11")'
	@echo "Setting up $(VENV) from constraints.txt; this takes some minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) $$(grep '^torch==' constraints.txt)
	@$(PIP) -c constraints.txt -e '.[sql,excel,dask,stack,s3,bench,dev]'
	@touch $@

clean:  ## everything that the commands above made
	rm -rf $(VENV) demo lake build *.egg-info
