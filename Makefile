# What a person types. Every target that needs Python sees to .venv first; nothing is installed by hand.

SHELL := /bin/sh
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help .venv search test test-slow lint format bench clean distclean

help:
	@echo 'make search     set up .venv, then a complete small search on generated speech, offline (about 2 minutes on 2 cores)'
	@echo 'make test       set up .venv, then the tests without the slow ones'
	@echo 'make test-slow  every test; those on real speech want CREMA_D_ROOT'
	@echo 'make .venv      only the set-up'
	@echo 'make lint       ruff (rules and layout) and mypy'
	@echo 'make format     lay the code out as `make lint` wants it'
	@echo 'make bench      the measurements in benchmarks/'
	@echo 'make clean      remove what tools left behind; results and .venv stay'
	@echo 'make distclean  the same, and .venv'
	@echo 'The Python for .venv is $$PYTHON, else the first of python3.11, python3.12 and python3 that fits.'

# Cheap when .venv is up to date (see the script): it compares one checksum.
.venv:
	@sh ./build_venv.sh

search: .venv
	$(BIN)/python search/run.py --space quick --data sample $(SEARCH_OPTIONS)

test: .venv
	$(BIN)/python -m pytest -q -m "not slow"

test-slow: .venv
	$(BIN)/python -m pytest -q

lint: .venv
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: .venv
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

bench: .venv
	@set -e; for file in $$(grep -l __main__ benchmarks/*.py); do echo "== $$file"; $(BIN)/python "$$file"; done

clean:
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv.lock
