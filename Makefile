# make try   the tour, on a fresh machine too        make test   everything, on a fresh machine too
# make check the quick loop while you work           make clean  forget .venv and what was built
# make audit known vulnerabilities of what is installed
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.PHONY: try test check fix bench audit clean

try: $(STAMP)
	@$(BIN)/redline try

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Redline needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@echo "Installing Redline into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV): $(STAMP) pyproject.toml
	@echo "Installing what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[openai,gemini,mcp,scale]' --group dev
	@touch $@

check: $(DEV)
	$(BIN)/ruff format --check agent server tests
	$(BIN)/ruff check agent server tests
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not editor" tests

fix: $(DEV)
	$(BIN)/ruff format agent server tests
	$(BIN)/ruff check --fix agent server tests

test: $(DEV) check
	$(BIN)/python -m pytest -q -n 2 -m "slow and not editor" tests
	$(BIN)/python -m pytest -m editor tests

bench: $(DEV)
	$(BIN)/python tests/bench/bench.py

audit: $(DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --skip-editable
	cd editors/vscode && npm audit --omit=dev
	cd tests/e2e/vscode && npm audit

clean:
	rm -rf $(VENV) build dist editors/vscode/node_modules editors/vscode/dist tests/e2e/node_modules
