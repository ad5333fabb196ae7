# make run: set up and run the embedded sweep.   make test: set up and run the test suite.
# make test-fast: the tests that need no model and no Ray.   make test-long: simulations, faults.
# make check, make format: linters and types; layout.
# PYTHON names the interpreter (3.11 or newer) that .venv is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-fast test-long check format clean

run: $(VENV)/.installed
	$(BIN)/python -m orchestrator --cluster local

# Side by side where a process disturbs no other; what starts Ray or measures has the machine alone.
# What is long is given out by modules, whose tests share what took minutes to make; what is disturbed
# on purpose waits most of its time, and goes side by side, too.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist worksteal tests/pure tests/models
	$(BIN)/python -m pytest tests/ray tests/gpu

test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest tests/pure

test-long: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --dist loadscope tests/long
	$(BIN)/python -m pytest -n auto --dist worksteal tests/faults

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch goes first and alone: any other package that needs it would otherwise choose its build.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cluster,test]'
	touch $@

clean:
	rm -rf $(VENV)
