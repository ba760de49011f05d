# Every target makes what it needs: `make demo` or `make test` may be the first command on a fresh machine.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MODEL_STAMP := $(VENV)/.installed-model
SOURCES := envfarm task_miner verifiers tests bench scripts examples
FUZZ_SECONDS := 3600

.PHONY: help demo test testagent testdocker testmodel check bench agent kernels docker fuzz format clean

help: ## Show the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(STAMP) ## Mine a real library from the package index, grade a fix, no change and cheats.
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh

test: $(STAMP) ## Run all tests but the agent's, Docker's and the model's.
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --ignore tests/model \
		--ignore-glob '*/test_agent_*' --ignore-glob '*/test_docker_*'

testagent: $(STAMP) ## Run the agent's tests: every kind of agent, rebuilt, under sanitizers, fuzzed.
	scripts/install_test_tools.sh
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile $(wildcard tests/*/test_agent_*.py)

testdocker: docker ## Run the tests on a real Docker daemon, which is installed and started where there is none.
	scripts/fetch_registry.sh $(VENV)/registry
	$(BIN)/python -m pytest -q -n auto --maxprocesses 2 --dist loadfile $(wildcard tests/*/test_docker_*.py)

testmodel: $(MODEL_STAMP) ## Run the model's tests; installs torch, 5 GB with its libraries.
	$(BIN)/python -m pytest -q -n auto --maxprocesses 2 --dist loadfile tests/model

check: $(MODEL_STAMP) ## Format, lint, contracts, types; build the wheel and try it in a clean environment.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/architecture/check_wheel.sh

bench: $(STAMP) ## Run the quick benchmarks; bench/README.md lists all of them.
	$(BIN)/python bench/help_time.py
	$(BIN)/python bench/jail.py
	$(BIN)/python bench/history_scan.py

agent: $(STAMP) ## Build the agent's programs from their source; a test compares them with what is shipped.
	$(BIN)/python scripts/build_agent.py

kernels: $(STAMP) ## Build the model's kernels from their source; a test compares them with what is shipped.
	$(BIN)/python scripts/build_kernels.py

docker: $(STAMP) ## Install and start a Docker daemon where there is none, and make the base image; as root.
	scripts/start_docker.sh

fuzz: ## Fuzz the agent's frame parser for an hour, or FUZZ_SECONDS=N.
	scripts/install_test_tools.sh
	scripts/fuzz_agent.sh $(FUZZ_SECONDS)

format: $(STAMP) ## Format and mend what can be mended.
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean: ## Remove the virtual environment and caches of the checkout.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build

$(STAMP): pyproject.toml scripts/bootstrap.sh
	@scripts/bootstrap.sh $(VENV)
	@touch $@

$(MODEL_STAMP): pyproject.toml scripts/bootstrap.sh
	@scripts/bootstrap.sh $(VENV) model
	@touch $@ $(STAMP)
