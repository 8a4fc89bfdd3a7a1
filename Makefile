# make demo: the whole pipeline on drawn pictures, in minutes, offline but for the package index.
# make test: lint and tests. make repro: what params.yaml says, CIFAR-10 by default.
# make bench: how fast this machine is. make fuzz MINUTES=20: damaged inputs, for so long.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
PYTHON ?= python3

DEMO = data.urls=[generated] data.train_images=2000 data.test_images=500 \
	model.image_height=67 model.image_width=67 train.epoch_size=3 train.batch_size=50

.PHONY: demo test repro bench fuzz

demo: .venv/run.stamp
	-dvc exp remove -q demo 2> /dev/null
	dvc exp run --temp --name demo $(DEMO:%=-S '%')
	dvc metrics diff --all --no-path HEAD demo

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

.venv/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else \
	  f"Python {v[0]}.{v[1]} found, 3.10 to 3.12 needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.txt .venv/bin/python
	python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/dev.stamp: requirements-dev.txt .venv/run.stamp
	python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# make chaos KILLS=100: the whole pipeline on a tiny problem, killed so often.
.PHONY: chaos
chaos: export KILLS ?= 100
chaos: .venv/dev.stamp
	pytest --numprocesses 0 --capture no tests/test_chaos.py
