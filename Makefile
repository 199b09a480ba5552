# Needs make and a Python from 3.11 on; all else is installed into .venv.

AIRFLOW := 3.3

# The system's own Python, if it will do: it is optimised, as others need not be, and takes a fifth less time.
usable := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON3 := $(if $(shell /usr/bin/python3 -c '$(usable)' 2>&1 || echo no),python3,/usr/bin/python3)
# The Python that .venv was made with stays in use, so PYTHON= is given once.
PYTHON ?= $(if $(wildcard .venv/ready-*),.venv/bin/python,$(PYTHON3))
PY := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CONSTRAINTS := constraints/airflow-$(AIRFLOW)-py$(PY).txt
READY := .venv/ready-$(PY)
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint $(CONSTRAINTS)
# Each worker has an Airflow and a database of its own, which costs it some 10 s. Tests also wait: four for two cores.
IN-PARALLEL := -n 4 --dist worksteal

# Without bytecode every start of Airflow compiles it anew, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

# Tests of whole Airflows wait half of the time. Each of these targets has an Airflow of its own.
ifneq ($(filter test-system test-ui,$(MAKECMDGOALS)),)
MAKEFLAGS += --jobs=2 --output-sync --keep-going
$(info Two at a time; what each prints follows when it is done ...)
endif

.DEFAULT_GOAL := help
.PHONY: help demo ui test lint constraints test-matrix test-package test-system test-ui screenshots clean
.PHONY: system-matrix system-celery system-others ui-3.3 ui-2.11

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile
	@echo 'The first one makes .venv, which takes about a minute more.'
	@echo 'PYTHON=python3.12 after any of them names the Python that .venv is made with.'
	@echo 'MUTATE=on_kill after test-system switches this mechanism off, see docs/guarantees_measured.md.'

demo: $(READY) ## Cancel a run from a real Airflow, against the emulator (half a minute)
	@$(BIN)/python scripts/demo.py

ui: $(READY) ## Try it by hand, in Airflow's user interface, against the emulator
	@$(BIN)/python scripts/ui.py

test: $(READY)-test ## Run the tests and hold coverage (some minutes)
	$(BIN)/pytest $(IN-PARALLEL) --cov --cov-report=
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --fail-under=100 --include='airflow_provider_stably/api/*'

lint: $(READY)-lint ## Check style, formatting and types (seconds)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-package: $(READY)-package ## Build the package and try it in an environment of its own (half a minute)
	@$(BIN)/python scripts/check_package.py --constraints $(CONSTRAINTS)

test-matrix: $(READY)-matrix ## Test all Airflows on all Pythons (an hour; CELLS="3.0 py3.12" names some of them)
	@$(BIN)/nox $(if $(CELLS),--tags $(CELLS))

test-system: $(if $(MUTATE),system-matrix,system-matrix system-celery system-others) ## Test a real Airflow of separate processes (ten minutes; needs Debian's postgresql, redis-server)

system-matrix system-celery: system-%: $(READY)-system
	$(BIN)/pytest tests/system/test_$*.py

system-others: $(READY)-system
	$(BIN)/pytest $(filter-out %_matrix.py %_celery.py,$(wildcard tests/system/test_*.py))

test-ui: ui-3.3 ui-2.11 ## Test Airflow's user interface in a browser (some minutes; needs Debian's chromium, postgresql)

ui-3.3: $(READY)-system
	$(BIN)/pytest tests/system/ui

ui-2.11: $(READY)-matrix
	@$(BIN)/nox -t system-2.11 -- tests/system/ui

screenshots: $(READY)-system ## Take the pictures in docs/images anew (some minutes)
	STABLY_SCREENSHOTS=docs/images $(BIN)/pytest tests/system/ui

constraints: $(READY)-matrix ## Pin anew what each cell of the matrix is tested with (minutes)
	@$(BIN)/nox -s constraints

clean: ## Remove .venv and whatever the other targets leave
	rm -rf .venv .nox .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml $(wildcard $(CONSTRAINTS))
	$(check-python)
	@echo 'Installing Airflow $(AIRFLOW) into .venv (half a minute) ...'
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@$(PIP) install --constraint $(CONSTRAINTS) uv
	@$(UV) --editable .
	@touch $@

# What a target needs besides is a dependency group of pyproject.toml.
$(READY)-%: $(READY)
	@echo 'Installing what make $(firstword $(MAKECMDGOALS)) needs into .venv ...'
	@$(UV) --group $*
	@touch $@

ANOTHER = name another one: make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12

define check-python
$(if $(PY),,$(error $(PYTHON) does not run; $(if $(findstring .venv,$(PYTHON)),make clean and start afresh,$(ANOTHER))))
$(if $(call in-python,sys.version_info >= (3$(comma) 11)),,
	$(error $(PYTHON) is Python $(PY), Airflow $(AIRFLOW) and this package need 3.11 or newer; $(ANOTHER)))
$(if $(wildcard $(CONSTRAINTS)),,
	$(error $(PYTHON) is Python $(PY), and there is no $(CONSTRAINTS); $(ANOTHER)))
$(if $(call in-python,__import__("venv") and __import__("ensurepip")),,
	$(error $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv))
endef

in-python = $(shell $(PYTHON) -c 'import sys; print($1 and "yes" or "")' 2>/dev/null)
comma := ,
