# Everything a newcomer needs: `make bench` and `make test` set themselves up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    ?= bench-run
JOBS   ?= auto
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help bench test check format docs clean

help: ## show the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "elattn-bench needs Python 3.10 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

bench: $(READY) ## measure quadratic against linear attention on this machine (minutes), draw it, sum it up
	$(BIN)/elattn-bench sweep --quick --output $(RUN) --force
	$(BIN)/elattn-bench plot $(RUN)
	$(BIN)/elattn-bench report $(RUN)
	$(BIN)/elattn-bench compare $(RUN)

test: $(READY) ## run the tests
	$(BIN)/python -m pytest -n $(JOBS)

check: $(READY) ## lint, format check and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## format the code in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## write what the pages take from the code and from committed runs
	$(BIN)/python -m elattn_bench.pages

clean: ## remove the virtual environment and caches, never your runs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
