export UV_PYTHON_DOWNLOADS := never
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: help setup demo test sbom faults docs mutants messages lint clean

help: ## what can be made here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

setup: $(VENV)/.synced ## make .venv with exactly the locked packages

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# Compiled here, once: where PYTHONDONTWRITEBYTECODE is set, every start of the command would compile all it imports.
$(VENV)/.synced: pyproject.toml uv.lock | $(BIN)/uv
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --frozen --quiet --inexact --compile-bytecode
	$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.judged: $(VENV)/.synced
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --frozen --quiet --inexact --compile-bytecode --group judges --group deploy --group docs --group browser
	@touch $@

demo: setup ## the whole product in one command, no credentials
	$(BIN)/cosell-sync demo

test: setup $(VENV)/.judged ## every test
	$(BIN)/python -m compileall -q src
	$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

sbom: setup ## dist/cosell-sync.cdx.json: what the image installs from PyPI, with versions and sources (CycloneDX)
	@mkdir -p dist
	$(BIN)/uv export --frozen --no-dev --extra postgresql --extra workers --format cyclonedx1.5 --preview-features sbom-export --quiet --output-file dist/cosell-sync.cdx.json >/dev/null

faults: setup ## every endpoint with every fault, on the wire
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder tests/wire/test_fault_matrix.py tests/wire/test_fault_cycles.py

docs: setup ## the docs as a site in site/, strictly: a broken link or a page that the navigation lacks is an error
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --frozen --quiet --inexact --compile-bytecode --group docs
	$(BIN)/mkdocs build --strict --quiet

mutants: setup ## which changes of the core would no test notice? (half an hour; `mutmut show NAME` has the change)
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --frozen --quiet --inexact --group mutation
	PATH="$(CURDIR)/$(BIN):$$PATH" nice mutmut run --max-children 2
	$(BIN)/mutmut results
	$(BIN)/mutmut export-cicd-stats && cat mutants/mutmut-cicd-stats.json

messages: setup ## after a text for sellers changed: catalogues and docs/messages.md brought up to date, what is to be translated named
	$(BIN)/python tests/core/catalogue_templates.py
	$(BIN)/python tests/core/test_messages.py

lint: setup ## style, types, import contracts, dead code, unused dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	@dead=$$($(BIN)/vulture | grep '^src/'); [ -z "$$dead" ] || { echo "$$dead"; exit 1; }

clean: ## forget the environment
	rm -rf $(VENV)
