# make setup: .venv, and nothing else. make demo: the whole pipeline on drawn pictures, in minutes, offline but for the
# package index. make test: lint and tests. make repro: what params.yaml says, CIFAR-10 by default.
# make recipe NAME=five-minutes: one of recipes/, as an experiment. make compare, or make compare ALL=1: the table of
# experiments. make seeds NAME=five-minutes SEEDS="1 2 3" FORMAT=markdown: a recipe with each seed.
# make lock: requirements.txt and requirements-dev.txt anew, from requirements.in and requirements-dev.in.
# make bench: how fast this machine is. make fuzz MINUTES=20: damaged inputs, for so long, and a table of them.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTHON ?= python3
FORMAT ?= text

.PHONY: setup demo recipe seeds compare test repro bench fuzz lock

setup: .venv/run.stamp
	@echo 'To use the commands: export PATH="$$PWD/.venv/bin:$$PATH"'

demo: .venv/run.stamp
	@python -m tools demo

recipe: .venv/run.stamp
	@python -m tools recipe '$(NAME)'

seeds: .venv/run.stamp
	@python -m tools seeds '$(NAME)' --format '$(FORMAT)' --seeds $(SEEDS)

compare: .venv/run.stamp
	@python -m tools compare $(if $(ALL),--all-commits)

test: .venv/dev.stamp
	ruff check .
	ruff format --check .
	mypy
	pytest

repro: .venv/run.stamp
	dvc repro

bench: .venv/dev.stamp
	python -m benchmarks

fuzz: export MINUTES ?= 20
fuzz: .venv/dev.stamp
	pytest --numprocesses 0 tests/fuzz

COMPILE = uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.10 --no-python-downloads \
	--no-emit-index-url --custom-compile-command 'make lock'

lock:
	@command -v uv > /dev/null || { echo 'ERROR: make lock needs uv: python -m pip install uv' >&2; exit 2; }
	$(COMPILE) requirements.in --output-file requirements.txt
	$(COMPILE) --constraint requirements.txt requirements-dev.in --output-file requirements-dev.txt

.venv/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else \
	  f"Python {v[0]}.{v[1]} found, 3.10 to 3.12 needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

# uv, where it is installed, takes a fraction of the time.
define install
	if command -v uv > /dev/null; then uv pip install --quiet --python .venv/bin/python --require-hashes --requirement $(1); \
	else python -m pip install --quiet --require-hashes --requirement $(1); fi
endef

.venv/run.stamp: requirements.txt .venv/bin/python
	$(call install,$<)
	touch $@

.venv/dev.stamp: requirements-dev.txt .venv/run.stamp
	$(call install,$<)
	touch $@

# make chaos KILLS=100: the whole pipeline on a tiny problem, stopped so often, and a table; SEED=1 fixes the moments.
.PHONY: chaos
chaos: export KILLS ?= 100
chaos: .venv/dev.stamp
	pytest --numprocesses 0 --capture no tests/test_chaos.py
