# Every target makes its own environment first. TASK=name (left out: what costs nothing), PROVIDER=together, ARGS="...".
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev evaluate doctor estimate collect measure calibrate sweep recommend report export monitor route \
        status new purge compare test test-slow test-lowest test-soak fuzz audit lint types check docs format bench bench-scale mutants compare-rules screenshots browser local-servers tools train lock clean

# the first that runs and is new enough (a version manager's shim may exist and not run)
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
TASK ?=
PROVIDER ?=
ARGS ?=
ALL ?=
RUN = $(PY) -m pipeline $@ $(TASK) $(if $(PROVIDER),--provider $(PROVIDER)) $(ARGS)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  TASK=email_triage  a task, a config or all (left out: the embedded ones)     PROVIDER=together  spend money'
	@echo '  ARGS="--limit 500" further options; see $(PY) -m pipeline --help'

# uv when it is there, else venv and pip; the lock is hashed and names no index
$(VENV)/ready: requirements/run.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later is needed and none was found; name one: make PYTHON=/path/to/python3' >&2; exit 2; }
	@if command -v uv >/dev/null; then \
	  uv venv -q --allow-existing --python "$(PYTHON)" $(VENV) && \
	  uv pip install -q --python $(PY) --require-hashes -r requirements/run.txt && \
	  uv pip install -q --python $(PY) --no-deps --no-build-isolation -e . ; \
	else \
	  { test -x $(PY) || "$(PYTHON)" -m venv $(VENV); } && \
	  $(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt && \
	  $(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready requirements/dev.txt
	@if command -v uv >/dev/null; then \
	  uv pip install -q --python $(PY) --require-hashes -r requirements/dev.txt; \
	else \
	  $(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt; \
	fi
	@touch $@

LOWEST := .venv-lowest
$(LOWEST)/ready: requirements/lowest.txt pyproject.toml
	@if command -v uv >/dev/null; then \
	  uv venv -q --allow-existing --python "$(PYTHON)" $(LOWEST) && \
	  uv pip install -q --python $(LOWEST)/bin/python --require-hashes -r requirements/lowest.txt && \
	  uv pip install -q --python $(LOWEST)/bin/python --no-deps --no-build-isolation -e . ; \
	else \
	  { test -x $(LOWEST)/bin/python || "$(PYTHON)" -m venv $(LOWEST); } && \
	  $(LOWEST)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/lowest.txt && \
	  $(LOWEST)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

setup: $(VENV)/ready ## Create .venv with what the commands need
setup-dev: $(VENV)/ready-dev ## Create .venv with what development needs

evaluate: $(VENV)/ready ## The main command: rows to threshold, report and policy
	@$(RUN)
doctor: $(VENV)/ready ## Check config, data, key and prices before spending
	@$(RUN)
estimate: $(VENV)/ready ## Count requests, tokens and dollars; send nothing
	@$(RUN)
collect: $(VENV)/ready ## Send what is missing to both models
	@$(RUN)
measure: $(VENV)/ready ## Grade answers, compute every signal, choose one
	@$(RUN)
calibrate: $(VENV)/ready ## Fit the calibrator on kept replies
	@$(RUN)
sweep: $(VENV)/ready ## Compute cost and accuracy at every threshold
	@$(RUN)
recommend: $(VENV)/ready ## Find the certified threshold, or say why there is none
	@$(RUN)
report: $(VENV)/ready ## Write the HTML pages
	@$(RUN)
export: $(VENV)/ready ## Print the policy: ARGS="--format yaml"
	@$(RUN)
monitor: $(VENV)/ready ## Check a production log: ARGS="--policy FILE --log FILE"
	@$(PY) -m pipeline monitor $(ARGS)
route: $(VENV)/ready ## Decide on one completion: ARGS="--policy FILE" < completion.json
	@$(PY) -m pipeline route $(ARGS)
status: $(VENV)/ready ## Show what was sent, kept, failed and paid
	@$(RUN)
new: $(VENV)/ready ## Propose a config: TASK=name ARGS="--from FILE"
	@$(PY) -m pipeline new $(TASK) $(ARGS)
purge: $(VENV)/ready ## Remove kept replies: TASK=name ARGS="--older-than 90"
	@$(PY) -m pipeline purge $(TASK) $(ARGS)
compare: $(VENV)/ready ## Compare two decisions: ARGS="A B" (tasks, run folders, policy files)
	@$(PY) -m pipeline compare $(ARGS)

test: $(VENV)/ready-dev ## Run the fast tests (a few minutes)
	@$(PY) -m pytest -q -n auto --dist loadfile -m "not slow" $(ARGS)
test-slow: $(VENV)/ready-dev ## Run the long tests
	@$(PY) -m pytest -q -n auto --dist loadfile -m slow $(ARGS)
test-lowest: $(LOWEST)/ready ## Run the fast tests with the lowest versions that pyproject.toml allows, in a separate environment
	@$(LOWEST)/bin/python -m pytest -q -n auto --dist loadfile -m "not slow" -o filterwarnings=default $(ARGS)
test-soak: $(VENV)/ready-dev ## Kill two tasks with 10,000 requests twenty times, one reply in twenty faulty (some minutes); ARGS="--batches 50": the batch API
	@$(PY) tests/soak.py $(ARGS)
fuzz: $(VENV)/ready-dev ## Feed odd values and damaged bytes to every reader, and run the property tests with a new seed (minutes)
	@$(PY) -m pytest -q -n auto --dist load -m hypothesis --hypothesis-profile fuzz --hypothesis-seed random $(ARGS)
	@$(PY) scripts/fuzz_bytes.py
audit: $(VENV)/ready-dev ## Check the locked packages for known vulnerabilities
	@$(PY) scripts/audit.py $(ARGS)
lint: $(VENV)/ready-dev ## Check style
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
types: $(VENV)/ready-dev ## Check types, strictly
	@$(PY) -m mypy
docs: $(VENV)/ready-dev ## Build the documentation site into site/; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs --quiet build --strict --clean
check: lint types docs ## Check style and types, build the documentation site
format: $(VENV)/ready-dev ## Format the code
	@$(PY) -m ruff check -q --fix . ; $(PY) -m ruff format -q .
mutants: $(VENV)/ready-dev ## Break the code one line at a time; the named tests must notice
	@$(PY) scripts/mutants.py $(ARGS)
bench: $(VENV)/ready-dev ## Measure speed: docs/performance.md and benchmarks/results.json (some minutes)
	@$(PY) benchmarks/run.py $(ARGS)
bench-scale: $(VENV)/ready-dev ## Measure whole runs, from replies or a table to the report: ARGS="--rows 10000 100000 --predictions 1000000"
	@PYTHONPATH=. $(PY) benchmarks/bench_scale.py $(ARGS)
compare-rules: $(VENV)/ready-dev ## How often each usual rule breaks its promise, and what it costs
	@$(PY) scripts/compare_rules.py $(ARGS)
screenshots: $(VENV)/ready-dev ## Take screenshots of the report for the README
	@$(PY) scripts/screenshots.py $(ARGS)
browser: ## Install Debian's chromium for the browser tests
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }
local-servers: $(VENV)/ready-dev ## Compile real inference servers for the tests, once
	@command -v c++ >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends g++; }
	@$(PY) scripts/local_servers.py build
.venv-tools/ready: requirements/tools.txt
	@if command -v uv >/dev/null; then \
	  uv venv -q --allow-existing --python "$(PYTHON)" .venv-tools && \
	  uv pip install -q --python .venv-tools/bin/python --require-hashes -r requirements/tools.txt; \
	else \
	  { test -x .venv-tools/bin/python || "$(PYTHON)" -m venv .venv-tools; } && \
	  .venv-tools/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/tools.txt; \
	fi
	@touch $@
tools: .venv-tools/ready ## Make .venv-tools: LiteLLM, vLLM's semantic router and Spark, which read our exports and tables in tests
TRAINER = $(if $(filter retrieval_relevance autocomplete_ranking,$(TASK)),train_linear,train_tiny)
train: $(VENV)/ready ## Retrain demonstration models: TASK=name (the tiny transformers need the extra `train`)
	@test -n "$(TASK)" -a "$(TASK)" != all || { echo 'name one task: make train TASK=email_triage' >&2; exit 2; }
	@test $(TRAINER) = train_linear || $(PY) -m pip install -q -e '.[train]'
	@for role in cheap strong; do $(PY) datasets/$(TRAINER).py $(TASK) --role $$role || exit 1; done
lock: ## Update the hashed requirements (needs uv)
	uv pip compile -q pyproject.toml --extra build --extra pipeline --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o requirements/run.txt
	uv pip compile -q pyproject.toml --extra build --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o requirements/dev.txt
	uv pip compile -q requirements/tools.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o requirements/tools.txt
	uv pip compile -q pyproject.toml --extra build --extra dev --universal --python-version 3.11 --resolution lowest-direct --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o requirements/lowest.txt
clean: ## Remove generated files except paid replies and certified runs (ALL=1: these too)
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site
	@$(if $(wildcard $(PY)),$(PY),$(PYTHON)) scripts/clean.py $(if $(ALL),--all)
