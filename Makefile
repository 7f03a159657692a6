# Everything is installed into .venv, with the machine's own Python; uv makes that seconds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
DOCS_VENV := .venv-docs
LOWEST_VENV := .venv-lowest
export CREWAI_DISABLE_TELEMETRY := true
export CREWAI_TRACING_ENABLED := false
export CREWAI_DISABLE_VERSION_CHECK := true
export OTEL_SDK_DISABLED := true

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest apps providers check bench bench-stores soak docs format clean

help: ## Show what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Run a LangGraph graph and a CrewAI crew under budgets, offline
	@$(BIN)/python examples/demo.py $(ARGS)

test: $(VENV)/.dev ## Run every test
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-lowest: $(LOWEST_VENV)/.lowest ## Run the LangChain and LangGraph tests on their oldest versions
	$(LOWEST_VENV)/bin/python -m pytest -n 2 tests/integrations/langchain tests/integrations/langgraph $(ARGS)

providers: $(VENV)/.dev ## Hold the books against every provider's log, and print the table
	$(BIN)/python -m pytest -n 2 -q tests/providers $(ARGS)

check: $(VENV)/.dev ## Lint, types, layers, docs: what is fast comes first
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell core integrations examples tests docs/content README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy
	$(BIN)/pyright
	@$(MAKE) --no-print-directory docs

apps: $(VENV)/.dev ## Put real applications under contracts, a line for each
	@$(BIN)/python -m tests.apps

bench: $(VENV)/.dev ## Measure against what it replaces, as ratios within one run
	$(BIN)/python -m tests.bench $(ARGS)

bench-stores: $(VENV)/.dev ## Measure the stores against what their databases do at least
	$(BIN)/python -m tests.bench $(notdir $(basename $(wildcard tests/bench/rows/stores_*.py))) $(ARGS)

soak: $(VENV)/.dev ## Run the long random tests, crashes and power cuts
	TBC_SOAK=1 $(BIN)/python -m pytest -n 2 --timeout=7200 -rP tests/core/rules tests/core/stores $(ARGS)

docs: $(DOCS_VENV)/.docs ## Build the documentation into docs/site
	cd docs && ../$(DOCS_VENV)/bin/zensical build --clean --strict

format: $(VENV)/.dev ## Put the code into its usual shape
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## Remove what was installed and built
	rm -rf $(VENV) $(DOCS_VENV) $(LOWEST_VENV) docs/.cache docs/site .mypy_cache .pytest_cache .ruff_cache

$(UV):
	@echo "Creating $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml | $(UV)
	@echo "Installing what the demo needs; CrewAI is large, so the first time takes a while ..."
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --python $(BIN)/python -e '.[all]' --group demo
	@touch $@

$(VENV)/.dev: pyproject.toml | $(UV)
	@echo "Installing what the tests and checks need ..."
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --python $(BIN)/python -e '.[all]' --group dev
	@touch $@ $(VENV)/.demo

# The oldest versions that pyproject.toml names of what a user installs for a graph.
$(LOWEST_VENV)/.lowest: pyproject.toml | $(UV)
	@$(PYTHON) -m venv $(LOWEST_VENV)
	@VIRTUAL_ENV=$(LOWEST_VENV) $(UV) pip install --quiet --python $(LOWEST_VENV)/bin/python \
		--resolution lowest-direct -e '.[langgraph,cli]' --group graphs
	@touch $@

# The documentation builder needs a newer tomli than CrewAI allows, so it lives on its own.
$(DOCS_VENV)/.docs: pyproject.toml | $(UV)
	@$(PYTHON) -m venv $(DOCS_VENV)
	@VIRTUAL_ENV=$(DOCS_VENV) $(UV) pip install --quiet --python $(DOCS_VENV)/bin/python --group docs
	@touch $@
