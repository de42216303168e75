# Two commands: `make demo` and `make test`. Both set up what they need first, and are quick when nothing is to do.
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: demo containers manifests test faults told slow mutations notebook lint setup format clean chaos

demo: setup
	@$(BIN)/python -m api.command.demo

# Builds the containers, tries them from nothing and removes them: needs Docker.
containers: setup
	@docker/try.sh

# Holds docker/kuberay against the schemas of Kubernetes and KubeRay; the validator gets a folder of its own.
manifests: setup
	@test -d .manifests || $(BIN)/pip install --quiet --target .manifests kubernetes-validate==1.37.0
	@PYTHONPATH=.manifests $(BIN)/python docker/kuberay/check.py

# What needs no stack of its own runs side by side on the cores; the rest starts whole stacks and has the machine to itself.
STACKS := tests/e2e tests/api/test_stack.py tests/faults/test_chaos.py tests/faults/test_storage.py
PROCESSES := $(shell n=$$(env -u OMP_NUM_THREADS nproc); echo $$((n > 4 ? 4 : n)))
test: setup lint
	@$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --ignore=tests/faults $(addprefix --ignore=,$(STACKS))
	@$(BIN)/python -m pytest $(STACKS)

# Every fault, one after another, on real stacks (long); `make test` has a random one and a node that dies.
faults: setup
	@$(BIN)/python -m pytest -m '' tests/faults

# What `retort status`, `show` and `logs` say in each fault, to be read by a person (a quarter of an hour).
told: setup
	@$(BIN)/python -m tests.faults.told

# 10,000 mutated studies and headers, and what was answered (minutes).
mutations: setup
	@$(BIN)/python -m pytest -m slow -s tests/api/test_mutations.py

# Executes examples/notebook.ipynb; its thirty packages get a folder of their own.
notebook: setup
	@test -d .notebook || $(BIN)/pip install --quiet --constraint constraints.txt --target .notebook nbclient==0.11.0 ipykernel
	@PYTHONPATH="$(CURDIR):.notebook" $(BIN)/python -m tests.api.run_notebook

# What `make test` leaves out for its time, without what has a target of its own (long).
slow: setup
	@$(BIN)/python -m pytest -m slow --ignore=tests/faults --ignore=tests/api/test_mutations.py

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

# The long one of the fault tests: a hundred random kills over every process of a real stack (about an hour).
KILLS ?= 100
SEED ?= 0
chaos: setup
	@$(BIN)/python -m tests.faults.chaos --kills $(KILLS) --seed $(SEED)
