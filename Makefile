# `make serve` and `make test` set up everything they need; a second run does nothing again.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for version in 3.13 3.12 3.14 3.11 3; do \
	command -v python$$version >/dev/null 2>&1 && \
	python$$version -c 'import sys; sys.exit(sys.version_info < (3, 11))' && \
	command -v python$$version && break; done)

.PHONY: help serve test test-quick lint sizes bench bench-engine bench-kernels mac-report clean
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

serve: $(VENV)/.installed  ## set up, fetch the demo models once, and serve config.toml
	$(BIN)/mlxnode serve

test: $(VENV)/.installed-dev  ## set up, and run the tests
	$(BIN)/python -m pytest

test-quick: $(VENV)/.installed-dev  ## the tests that are not marked slow: less than a minute
	$(BIN)/python -m pytest -m "not slow"

# With the benchmarks' dependencies, whose types are checked too.
lint: $(VENV)/.installed-bench  ## check style, formatting, types and the sizes of the files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/python .ci/sizes.py

sizes: $(VENV)/.created  ## count lines by folder, and find the files that are too long
	$(BIN)/python .ci/sizes.py

bench: $(VENV)/.installed-bench  ## throughput and latency over HTTP beside mlx_lm.server
	$(BIN)/python benchmarks/serving.py --rounds 2 --json build/serving.json --plot build/serving.svg

bench-engine: $(VENV)/.installed-bench  ## a decode step without HTTP
	$(BIN)/python benchmarks/engine.py --json build/engine.json

bench-kernels: $(VENV)/.installed-bench  ## sampling: kernel, operations and mlx-lm's samplers
	$(BIN)/python benchmarks/sampling.py --json build/kernels.json --plot build/kernels.svg

mac-report: $(VENV)/.installed-dev  ## check, measure and test this Mac; write build/mac-report.md
	$(BIN)/mlxnode doctor --report build/mac-report.md

clean:  ## remove the environment
	rm -rf $(VENV) build *.egg-info

$(VENV)/.installed: pyproject.toml | $(VENV)/.blas
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.blas
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	@mkdir -p build
	@touch $@

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "mlxnode needs Python 3.11 or newer, as mlx-lm does" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot create environments: install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# MLX's CPU backend on Linux is many times faster with the system's OpenBLAS. Without the
# right to install it, everything still works.
$(VENV)/.blas: | $(VENV)/.created
	@if [ "$$(uname)" = Linux ] && ! ldconfig -p 2>/dev/null | grep -q libopenblas.so.0; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
		{ $$sudo apt-get update -qq && \
		  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libopenblas0-pthread; \
		} >/dev/null 2>&1 || echo "OpenBLAS is not installed: the CPU backend will be slow"; \
	fi
	@touch $@
