# `make serve` and `make test` set up everything they need; a second run does nothing again.
# macOS has GNU make 3.81, and BSD's sed and awk: tests/repository/test_makefile.py.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for version in 3.13 3.12 3.14 3.11 3; do \
	command -v python$$version >/dev/null 2>&1 && \
	python$$version -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	command -v python$$version && break; done)

.PHONY: help serve test test-all test-models test-clients test-quick fuzz soak lint sizes bench \
	bench-batches bench-engine bench-hostile bench-kernels bench-scale faults mac-report docs release clean
.DEFAULT_GOAL := help

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(VENV)/.installed  ## set up, fetch the demo models once, and serve config.toml
	$(BIN)/mlxnode serve

# Many tests wait for a process, so two run at a time. The tests of a file share what they start.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test: $(VENV)/.installed-dev  ## set up, and run the tests, with some cases of each long table
	$(PYTEST) -m "not long and not exhaustive and not models and not clients"

test-all: $(VENV)/.installed-dev  ## all tests but those of make test-models
	$(PYTEST) -m "not models and not clients"

test-models: $(VENV)/.installed-dev  ## all architectures of mlx-lm, for long; write docs/models.md
	$(BIN)/python -m pytest --numprocesses 2 -m "models or families"; status=$$?; \
		PYTHONPATH=tests $(BIN)/python -m support.models_table && exit $$status

# One at a time: each client gets the whole machine. What fails runs once more: these are programs
# of others, with clocks of their own.
CLIENTS := $(BIN)/python -m pytest -m clients tests/clients tests/documents tests/monitoring tests/process
test-clients: $(VENV)/.installed-dev build/clients/.installed build/prometheus/.unpacked build/balancers/.unpacked  ## agents and SDKs at work against a node
	$(CLIENTS) || $(CLIENTS) --last-failed

test-quick: $(VENV)/.installed-dev  ## the tests that are not marked slow: less than a minute
	$(PYTEST) -m "not slow and not long and not exhaustive and not models and not clients"

# Each target of guided fuzzing runs for FUZZ_SECONDS. atheris has wheels for Linux alone.
FUZZ_REQUESTS ?= 100000
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.installed-fuzz  ## attack a node and its readers with generated input, for an hour
	cd tests && ../$(BIN)/python -m fuzz.requests --count $(FUZZ_REQUESTS)
	cd tests && for target in $$(../$(BIN)/python -m fuzz.targets); do \
		../$(BIN)/python -m fuzz.guided $$target --seconds $(FUZZ_SECONDS) || exit 1; done

SOAK_MINUTES ?= 30
soak: $(VENV)/.installed-dev  ## mixed load for half an hour: memory stays flat, nothing stays held
	cd tests && ../$(BIN)/python -m soak.run --minutes $(SOAK_MINUTES)

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

bench-batches: $(VENV)/.installed-bench  ## streams beside a batch: in the engine, then over HTTP
	$(BIN)/python benchmarks/background.py --json build/background.json
	$(BIN)/python benchmarks/batches.py --json build/batches.json

bench-engine: $(VENV)/.installed-bench  ## a decode step without HTTP
	$(BIN)/python benchmarks/engine.py --json build/engine.json

bench-hostile: $(VENV)/.installed-bench  ## what other clients notice of each attack
	$(BIN)/python benchmarks/hostile.py --json build/hostile.json

bench-kernels: $(VENV)/.installed-bench  ## sampling: kernel, operations and mlx-lm's samplers
	$(BIN)/python benchmarks/sampling.py --json build/kernels.json --plot build/kernels.svg

bench-scale: $(VENV)/.installed-bench  ## the simulator of nodes beside two real nodes
	$(BIN)/python benchmarks/scale.py validate --json build/scale.json

# Some take minutes by themselves: a hung process is replaced after a time.
faults: $(VENV)/.installed-dev  ## each fault 20 times on a real node; print the times of recovery
	@mkdir -p build
	MLXNODE_FAULT_ROUNDS=$${MLXNODE_FAULT_ROUNDS:-20} MLXNODE_FAULT_TIMES=build/faults.json \
		$(BIN)/python -m pytest tests/faults

docs: $(VENV)/.installed-dev  ## write docs/configuration.md, docs/cli.md and docs/api.md from the code
	cd tests && ../$(BIN)/python -m documents.write

release: $(VENV)/.installed-dev  ## build sdist and wheel, and write the formula's stable block
	$(BIN)/python .ci/release.py

mac-report: $(VENV)/.installed-dev  ## check, measure and test this Mac; write build/mac-report.md
	$(BIN)/mlxnode doctor --report build/mac-report.md

clean:  ## remove the environment
	rm -rf $(VENV) build *.egg-info

$(VENV)/.installed: pyproject.toml | $(VENV)/.packages
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.packages-dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,tracing,redis]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,tracing,redis,bench]'
	@mkdir -p build
	@touch $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,tracing,redis,fuzz]'
	@touch $@

build/clients/.installed: $(wildcard tests/clients/packages/*) | $(VENV)/.installed-dev
	@[ "$$(uname -s)" != Linux ] || \
		sh .ci/packages.sh node=nodejs npm=npm git=git chromium=chromium redis-check-rdb=redis-tools
	$(BIN)/python -m pip install --quiet --editable '.[dev,browser]'
	@command -v npm >/dev/null || { echo "The clients need Node and npm."; exit 1; }
	sh tests/clients/packages/install.sh build/clients $(PYTHON)
	@touch $@

# Its programs alone: the package would start a server.
build/prometheus/.unpacked:
	@command -v promtool >/dev/null || sh .ci/unpack.sh prometheus build/prometheus
	@mkdir -p build/prometheus && touch $@

build/balancers/.unpacked:
	@command -v nginx >/dev/null || sh .ci/unpack.sh nginx build/balancers
	@command -v caddy >/dev/null || sh .ci/unpack.sh caddy build/balancers
	@mkdir -p build/balancers && touch $@

$(VENV)/.created:
	@sh .ci/machine.sh "$(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

# What macOS has, or Homebrew brings (Brewfile), are packages on Linux. MLX's CPU backend is many
# times faster with the system's OpenBLAS, and compiles with g++.
$(VENV)/.packages: | $(VENV)/.created
	@[ "$$(uname -s)" != Linux ] || \
		sh .ci/packages.sh libopenblas.so.0=libopenblas0-pthread g++=g++
	@touch $@

# The tests run the formula with ruby, `make help` with macOS's awk, and compile the kernels with
# clang.
$(VENV)/.packages-dev: | $(VENV)/.packages
	@[ "$$(uname -s)" != Linux ] || \
		sh .ci/packages.sh ruby=ruby clang=clang original-awk=original-awk
	@touch $@
