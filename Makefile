# Each target makes what it needs in .venv by itself; a fresh clone needs a Python from 3.10 on and no more.

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
SUITES_VENV := build/suites/venv
SUITES_READY := $(SUITES_VENV)/.ready
UV ?= uv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-later suites lint format bench collector keycloak dist requirements clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' Makefile

demo: $(READY) ## two example apps, real tokens, who did what, and a proof that holds until a byte is changed
	@$(PYTHON) examples/demo/run.py

# One more than there are cores: much of the tests' time is waiting for servers. The tests of one file stay in one
# worker, since they may share a server that is slow to start.
JOBS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN 2> /dev/null || echo 2) + 1 )))

test: $(READY) ## all tests but test-later's, with the coverage gate (PYTEST="tests/unit -k chain" runs some, without it)
	@$(PYTHON) -m pytest $(or $(PYTEST),-n $(JOBS) --dist loadfile --cov --ignore=tests/later)

test-later: $(READY) ## what is to hold next year: newer releases on the index, a clock years ahead (about 6 minutes)
	@$(PYTHON) -m pytest tests/later

suites: $(SUITES_READY) ## other people's test suites, with us and without: OpenTelemetry's, Falcon's, FastAPI's (SUITES="wsgi flask" runs some)
	@cd tests && ../$(SUITES_VENV)/bin/python -m suites ../build/suites $(SUITES)

lint: $(READY) ## ruff, mypy --strict, and the tests of the documentation
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m towncrier build --draft --version next > /dev/null
	@$(PYTHON) -m pytest -q tests/docs

format: $(READY) ## let ruff rewrite what it can
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

bench: $(READY) ## the benchmarks
	@$(PYTHON) -m benchmarks

keycloak: $(READY) ## a real Keycloak on loopback to try tokens with (needs Java and Maven), until Ctrl-C
	@cd tests && ../$(PYTHON) -m support.keycloak

collector: ## build the Collector, Jaeger and VictoriaLogs from source, once (needs Go; kept in ~/.cache/jwt-audit)
	@collector-config/programs/build.sh

dist: $(READY) ## wheel, source archive and SBOM of a release, in dist/
	@rm -rf dist build/release
	@$(PYTHON) -m hatchling build
	@$(PYTHON) -m venv build/release
	@build/release/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r requirements/release.txt
	@build/release/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type library --output-reproducible \
	  --output-file "$$(ls dist/*.whl | sed 's/-py3-none-any.whl$$/.cdx.json/')" requirements/runtime.txt

COMPILE := pip compile --quiet --universal --generate-hashes --python-version 3.10 \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make requirements"

requirements: ## pin the requirements anew (needs uv)
	$(UV) $(COMPILE) --upgrade --extra sink --output-file requirements/dev.txt requirements/dev.in pyproject.toml
	$(UV) $(COMPILE) --upgrade --output-file requirements/release.txt requirements/release.in
	$(UV) $(COMPILE) --extra sink --constraints requirements/dev.txt --output-file requirements/runtime.txt pyproject.toml
	$(UV) $(COMPILE) --upgrade --extra sink --output-file requirements/suites.txt requirements/dev.in requirements/suites.in pyproject.toml

clean: ## remove .venv and everything that was generated
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2> /dev/null || true

# Made anew as a whole when the pins change, so that it never holds what is not pinned. An interrupted
# set-up has no stamp and starts over. --no-deps: dev.txt names everything, and pip up to 23.2 does not see
# that a pinned "coverage" answers a wish for "coverage[toml]": it would take the newest release, whose
# hash is not here. That nothing is missing is asked afterwards, of pip check.
$(READY): requirements/dev.txt pyproject.toml
	@set -eu; found=; \
	for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	  if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' > /dev/null 2>&1; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo 'make: no Python from 3.10 on with its venv module was found in PATH' >&2; \
	  echo '      (Debian and Ubuntu have it in the package python3-venv)' >&2; \
	  exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$found" --version) ..."; \
	"$$found" -m venv --clear $(VENV); \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt; \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	$(PYTHON) -m pip check; \
	touch $(READY)

# What other people's suites need is much, and no part of what we test with: an environment of its own.
$(SUITES_READY): requirements/suites.txt pyproject.toml $(READY)
	@echo "Setting up $(SUITES_VENV) ..."
	@$(PYTHON) -m venv --clear $(SUITES_VENV)
	@$(SUITES_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/suites.txt
	@$(SUITES_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(SUITES_VENV)/bin/python -m pip check
	@touch $(SUITES_READY)
