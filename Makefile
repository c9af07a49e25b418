# Needs Python 3.11 or later and nothing else: everything is installed into .venv, a server included.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
DOCS_READY := .venv/.docs-ready
FUZZ_READY := .venv-fuzz/.ready
SCAN_READY := .venv-scan/.ready
# Some machines say that Python shall keep no compiled modules; each of a thousand processes would compile all of them anew.
unexport PYTHONDONTWRITEBYTECODE
OLDEST := $(shell sed -n 's/.*"redis\[hiredis\]>=\([0-9.]*\),.*/\1/p' pyproject.toml)
OLDEST_READY := .venv-oldest/.ready

.PHONY: help demo demo-ui test flakes conformance oldest-client chaos fuzz composition api-fuzz api-client scan test-all check mutants docs bench bench-peers import-time format clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "streams needs Python 3.11 or later: make PYTHON=/path/to/python3.11")'
	@echo "setting up .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' >.venv/install.log 2>&1 \
		|| { cat .venv/install.log; exit 1; }
	@touch $(READY)

$(DOCS_READY): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]' >.venv/install.log 2>&1 \
		|| { cat .venv/install.log; exit 1; }
	@touch $(DOCS_READY)

$(FUZZ_READY): pyproject.toml
	@$(PYTHON) -m venv .venv-fuzz
	@.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' 'schemathesis>=4' 'openapi-python-client>=0.25'
	@touch $(FUZZ_READY)

$(OLDEST_READY): pyproject.toml
	@$(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet --editable '.[dev]' 'redis==$(OLDEST)'
	@touch $(OLDEST_READY)

$(SCAN_READY): pyproject.toml
	@$(PYTHON) -m venv .venv-scan
	@.venv-scan/bin/python -m pip install --quiet --disable-pip-version-check 'wapiti3>=3.2'
	@touch $(SCAN_READY)

demo: $(READY)  ## the main job, from an input file to balanced books, on the embedded server
	@$(BIN)/streams demo
	@echo "To look around in a browser, on a system that goes on: make demo-ui"

demo-ui: $(READY)  ## a living system with some trouble in it, and the dashboard to look at; Ctrl-C ends it
	@$(BIN)/python examples/living.py

test: $(READY)  ## every test, on every server found
	@$(BIN)/python -m pytest -n 4 --dist worksteal

flakes: $(READY)  ## the suite again and again, every second time beside busy loops; RUNS=10 LOAD=2 TESTS=tests/server
	@$(BIN)/python -m tests.flakes --runs $(or $(RUNS),10) --load $(or $(LOAD),2) $(TESTS)

conformance: $(READY)  ## the whole server suite behind Sentinels, on a cluster, embedded, by TLS, and as users by role; ON=cluster
	@set -e; for kind in $(or $(ON),sentinel cluster embedded tls acl); do echo "on: $$kind"; \
		STREAMS_TEST_TOPOLOGY=$$kind $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/server; done

oldest-client: $(OLDEST_READY)  ## the server suite with the oldest client library, and its tests of Sentinels, clusters and TLS
	@.venv-oldest/bin/python -c "import redis; print('client library', redis.__version__)"
	@.venv-oldest/bin/python -m pytest -q -n 2 --dist worksteal tests/unit/test_urls.py tests/server tests/conformance
	@set -e; for kind in sentinel cluster tls; do echo "on: $$kind"; STREAMS_TEST_TOPOLOGY=$$kind .venv-oldest/bin/python -m pytest \
		-q -n 2 --dist worksteal tests/server/test_link.py \
		tests/server/test_pipeline.py tests/server/test_pipeline_blocks.py \
		tests/server/test_producer.py tests/server/test_producer_bounds.py; done

chaos: $(READY)  ## minutes of seeded trouble on every topology, and the books; SECONDS=60 SEED=7 ON=single,cluster
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(if $(ON),--on $(ON))

fuzz: $(READY)  ## bent entries and rows against everything that reads what is stored; SECONDS=60 SEED=7
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

composition: $(READY)  ## thousands of seeds of everything at once, and what they came to; SEEDS=5000 FIRST=0 MINUTES=30 ON=redis
	@$(BIN)/python -m tests.composition --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),0) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(ON),--on $(ON))

api-fuzz: $(FUZZ_READY)  ## schemathesis against the HTTP API; EXAMPLES=200
	@.venv-fuzz/bin/python -m tests.api_fuzz --max-examples $(or $(EXAMPLES),100)

api-client: $(FUZZ_READY)  ## a client that is generated of the API's document, against a real server
	@.venv-fuzz/bin/python -m tests.api_client

scan: $(READY) $(SCAN_READY)  ## wapiti against the dashboard, logged in as an admin; OPTIONS="-m all"
	@$(BIN)/python -m tests.scan .venv-scan/bin/wapiti $(OPTIONS)

test-all:  ## every test, on every Python and every server found; PYTHONS='3.12 3.13' and TESTS='tests/unit' choose
	@PYTHONS='$(PYTHONS)' TESTS='$(TESTS)' $(PYTHON) tests/matrix.py

check: $(READY)  ## formatting, lint, types, import order, security lint, Lua contracts, prose, shape
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive streams
	$(BIN)/python -m tests.architecture.lua_contract
	$(BIN)/python -m tests.architecture.prose
	$(BIN)/python -m tests.architecture.gates

docs: $(DOCS_READY)  ## the documentation into site/; broken links and anchors fail
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

mutants: $(READY)  ## seed each known bug and see a test fail; ONLY="name name" for some
	@$(BIN)/python -m tests.mutants.run $(ONLY)

bench: $(READY)  ## ours against the bare client library, in alternating rounds; ROUNDS=5
	@$(BIN)/python -m benchmarks.bench $(or $(ROUNDS),5)

bench-peers: $(READY)  ## ours beside other projects, each in an environment of its own; ROUNDS=3 PEERS="arq saq"
	@$(BIN)/python -m benchmarks.bench_peers $(or $(ROUNDS),3) $(PEERS)

import-time: $(READY)  ## what importing costs, and the slowest parts of it
	@$(BIN)/python benchmarks/import_time.py

format: $(READY)  ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what was set up
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache site
