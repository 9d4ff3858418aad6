# Everything runs in .venv, which is made by whatever needs it first. Nothing is needed but Python 3.11+ and make.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
BIN := .venv/bin
PARALLEL ?= 2
ENGINE ?= docker
# A newer pip is no news to somebody who sees runfold for the first time.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test faults soak lint kafka bench image settings constraints clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/.runtime: pyproject.toml constraints.txt hatch_build.py $(wildcard processor/runfold/fold/_*.p[yx][xi])
	@test -n "$(PYTHON)" || { echo "runfold needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "no virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	@$(BIN)/python -c 'from runfold.fold.short_cut import BUILT; BUILT or print("No C compiler or no Python headers: installed without the compiled fold. Slower, the same results.")'
	@touch $@

.venv/.development: .venv/.runtime
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[kafka]' --group lint --group test --constraint constraints.txt
	@touch $@

install: .venv/.runtime ## Install runfold into .venv

demo: .venv/.runtime ## The main job on the embedded default: publish, fold, kill, prove (about 40 s)
	$(BIN)/runfold demo

test: .venv/.development lint ## All tests, with types, style and architecture first
	$(BIN)/python -m pytest -n $(PARALLEL)

faults: .venv/.development ## The fault tests with their full counts: 200,000 events, 20 kills each (about 40 min)
	$(BIN)/python -m pytest -n $(PARALLEL) -m faults

soak: .venv/.development ## Those that take their time: a minute of coming and going, idling, 2,000,000 events (about 15 min)
	$(BIN)/python -m pytest -n $(PARALLEL) -m soak

lint: .venv/.development ## Types, style, format and the directions between rooms
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

kafka: ## Apache Kafka on this machine until Ctrl-C (KAFKA="--brokers 3", or "-- command")
	@test -n "$(PYTHON)" || { echo "runfold needs Python 3.11 or newer" >&2; exit 2; }
	$(PYTHON) deploy/kafka/run.py $(KAFKA)

bench: .venv/.development ## Measure, beside baselines in the same run
	@for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

image: ## Build the container image, runfold:VERSION (needs a container engine; ENGINE=podman)
	$(ENGINE) build --tag runfold:$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) --file deploy/Dockerfile .

settings: .venv/.runtime ## Write deploy/runfold.env anew from the settings that there are
	$(BIN)/runfold config --env-file > deploy/runfold.env

constraints: ## Compile the pins anew (needs uv)
	uv pip compile pyproject.toml --extra api --extra archive --extra cost --extra kafka --extra postgres --group lint --group test --universal --python-version 3.11 --no-header --upgrade --output-file constraints.txt

clean: ## Remove what was made
	rm -rf .venv processor/runfold/fold/_swift*.so deploy/kafka/.jars .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist runfold-data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
