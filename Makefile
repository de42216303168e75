# Two commands: `make demo` and `make test`. Both set up what they need first, and are quick when nothing is to do.
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: demo test notebook lint setup format clean

demo: setup
	@$(BIN)/python -m api.command.demo

test: setup lint
	@$(BIN)/python -m pytest

# Executes examples/notebook.ipynb; its thirty packages get a folder of their own.
notebook: setup
	@test -d .notebook || $(BIN)/pip install --quiet --target .notebook nbclient==0.11.0 ipykernel
	@PYTHONPATH="$(CURDIR):.notebook" $(BIN)/python -m tests.api.run_notebook

lint: setup
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

setup:
	@PYTHON="$(PYTHON)" ./bootstrap.sh

clean:
	rm -rf .venv .mypy_cache .ruff_cache
