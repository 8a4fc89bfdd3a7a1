# make setup                    create .venv and install the packages of requirements.txt
# make setup-dev                install the packages of requirements-dev.txt as well: linter, type checker and tests
# make demo                     run the whole pipeline on generated images, in a few minutes
# make repro                    run the pipeline as params.yaml says: on CIFAR-10 by default
# make recipe NAME=five-minutes run one of recipes/ as an experiment
# make seeds NAME=five-minutes SEEDS="1 2 3" FORMAT=markdown
#                               run a recipe once for each seed, and print means and standard deviations, with
#                               FORMAT=markdown as a table for a document, and with FORMAT=json for a program; like
#                               recipe, it takes SET="data.urls=[/path/to/archive.tar.gz] data.md5=null", in which
#                               a value must not contain spaces
# make compare                  print the table of experiments; with ALL=1, those of older commits too;
#                               with NAME="hour zoo", only these; with FIGURE=accuracy.svg, draw accuracy against cost
# make test                     run the linter, the type checker and the tests
# make fuzz MINUTES=20          test damaged inputs for 20 minutes, and print a table
# make chaos KILLS=100          stop the pipeline about 100 times, on a tiny problem, check that it recovers, and
#                               print a table; SEED=1 repeats the same choices of signals and moments
# make bench                    measure how fast this machine is
# make lock                     compile requirements*.txt from versions.txt and requirements*.in
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTHON ?= python3
# These come from the command line only. The environment may have variables of the same names for other purposes.
NAME =
SEEDS =
SET =
ALL =
FIGURE =
FORMAT = text
MINUTES = 20
KILLS = 100
SEED =
SETTINGS = $(foreach setting,$(SET),-S '$(setting)')

# When `python -m venv` fails, it leaves a part of .venv, which must not count as made.
.DELETE_ON_ERROR:
.PHONY: setup setup-dev demo recipe seeds compare test repro bench fuzz chaos lock

setup: .venv/run.stamp
	@echo 'To use the commands: export PATH="$$PWD/.venv/bin:$$PATH"'

setup-dev: .venv/dev.stamp

demo: .venv/run.stamp
	@python -m tools demo

recipe: .venv/run.stamp
	@python -m tools recipe '$(NAME)' $(SETTINGS)

seeds: .venv/run.stamp
	@python -m tools seeds '$(NAME)' $(SETTINGS) --format '$(FORMAT)' --seeds $(SEEDS)

compare: .venv/run.stamp
	@python -m tools compare $(if $(ALL),--all-commits) $(if $(FIGURE),--figure '$(FIGURE)') $(NAME)

test: .venv/dev.stamp
	ruff check .
	ruff format --check .
	mypy
	pytest

repro: .venv/run.stamp
	dvc repro

bench: .venv/dev.stamp
	python -m benchmarks

fuzz: export FUZZ_MINUTES = $(MINUTES)
fuzz: .venv/dev.stamp
	pytest --numprocesses 0 tests/fuzz

chaos: export CHAOS_KILLS = $(KILLS)
chaos: export CHAOS_SEED = $(SEED)
chaos: .venv/dev.stamp
	pytest --numprocesses 0 --capture no tests/test_chaos.py

COMPILE = uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.10 --no-python-downloads \
	--no-emit-index-url --custom-compile-command 'make lock'

lock:
	@command -v uv > /dev/null || { echo 'ERROR: make lock needs uv: python -m pip install uv' >&2; exit 2; }
	$(COMPILE) requirements.in --output-file requirements.txt
	$(COMPILE) --constraint requirements.txt requirements-dev.in --output-file requirements-dev.txt

# Not .venv/bin/python, which is a link: make would install everything again when the system's Python is updated.
.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else \
	  f"Python {v[0]}.{v[1]} found, 3.10 to 3.12 needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .venv

# uv is much faster than pip, so it is used where it is installed. It must be told to compile what it installs: where
# PYTHONDONTWRITEBYTECODE is set, each start of a stage would compile all of MindSpore.
define install
	@echo 'Installing the packages of $(1) into .venv, which takes a few minutes the first time ...'
	@if command -v uv > /dev/null; then uv pip install --quiet --compile-bytecode --python .venv/bin/python --require-hashes --requirement $(1); \
	else python -m pip install --quiet --require-hashes --requirement $(1); fi
endef

.venv/run.stamp: requirements.txt .venv/pyvenv.cfg
	$(call install,$<)
	@touch $@

.venv/dev.stamp: requirements-dev.txt .venv/run.stamp
	$(call install,$<)
	@touch $@

