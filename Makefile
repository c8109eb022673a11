# The project's commands. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup run test dev check fast scenarios sim soak fuzz screenshots bench bundle lock clean
PY := .venv/bin/python
ARGS ?=
RUNS ?= 1
SEED ?=
OF ?= members
OUT ?= dist
FRAMES ?= 20000

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## everything a node needs: Python environment, engine, assets (no root; seconds the second time)
	@scripts/setup.sh

run: setup ## a node on the built-in demo model; make run ARGS="--model NAME" for another
	@.venv/bin/mesh-llm $(ARGS)

test: dev check ## all checks and tests, with everything they need
	@CHROMIUM="$$(scripts/chromium.sh)" && export CHROMIUM && \
	  echo "test: fast part" && $(PY) -m pytest -q -n 3 --dist loadfile -m "not engine and not browser and not e2e and not slow" && \
	  echo "test: real engines, real browser, whole nodes" && $(PY) -m pytest -q -n 2 --dist loadfile -m "engine or browser or e2e or slow"

dev: # setup, and what the tests need
	@scripts/setup.sh requirements-dev.txt

check: dev ## formatting, lint, types and the direction of imports
	@.venv/bin/ruff check . && .venv/bin/ruff format --check -q .
	@.venv/bin/mypy .
	@.venv/bin/lint-imports --no-logo 2>/dev/null || .venv/bin/lint-imports

fast: dev ## the fast tests alone
	@$(PY) -m pytest -q -n 3 --dist loadfile -m "not engine and not browser and not e2e and not slow"

scenarios: dev ## the acceptance scenarios end to end; make scenarios RUNS=10 to repeat them
	@CHROMIUM="$$(scripts/chromium.sh)" && export CHROMIUM && \
	for n in $$(seq $(RUNS)); do echo "scenarios: run $$n of $(RUNS)"; \
	  $(PY) -m pytest -q tests/e2e -k scenario || exit 1; done

sim: dev ## the simulator: make sim SEED=n replays one seed, without it a swarm runs; OF=serving or OF=split for whole nodes
	@$(PY) -m tests.sim --of $(OF) $(if $(SEED),--seed $(SEED),--swarm 20)

soak: dev ## the full counts: simulator seeds and table, hostile bytes, kills of real nodes (an hour; not part of the gate)
	@$(PY) -m tests.sim --swarm 200
	@$(PY) -m tests.sim --table --full
	@$(PY) -m tests.fuzz --frames 1000000
	@$(PY) -m tests.soak.kills --kills 30
	@$(PY) -m tests.soak.splits --kills 100
	@$(PY) -m tests.soak.split_recovery --repeats 10
	@$(PY) -m tests.soak.idle

fuzz: dev ## hostile bytes against frames, tokens and handshakes; make fuzz FRAMES=1000000 for the full count
	@$(PY) -m tests.fuzz --frames $(FRAMES)

screenshots: dev ## the README's pictures of the console anew, from a scripted node; ARGS="--all DIR" for every view and state
	@CHROMIUM="$$(scripts/chromium.sh)" && export CHROMIUM && $(PY) scripts/screenshots.py $(ARGS)

bench: setup ## paired measurements against nginx and LiteLLM; writes docs/benchmarks.md (minutes)
	@$(PY) -m benchmarks --write $(ARGS)

bundle: setup ## one tar.gz that sets a like machine up with no network, into dist/ (or OUT=FOLDER)
	@$(PY) -m deploy.bundle --out "$(OUT)"

lock: ## pin requirements.in and requirements-dev.in anew, with hashes (needs uv)
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url requirements.in -o requirements.txt
	@uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url requirements-dev.in -o requirements-dev.txt

clean: ## remove what make made here (the node's home stays)
	@rm -rf .venv staticfiles .mypy_cache .ruff_cache .pytest_cache build dist
