# Everything sets itself up in .venv; nothing needs root. PYTHON chooses the interpreter (>= 3.10).
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What is compiled when the package is installed.
KERNELS := hatch_build.py $(wildcard src/tts_provider/engines/csm/native/*.[ch])

# Two at a time, each with up to 2 GB; a worker that has finished takes over tests of another.
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n 2 --dist worksteal
# They have targets of their own.
OTHERS := --ignore tests/clients --ignore tests/engines/remote/test_ray.py

.PHONY: run test test-slow test-all test-clients test-ray docs-check clients lint format bench sanitize hazards clean

run: .venv/run.stamp
	$(BIN)/tts-provider serve $(ARGS)

test: .venv/test.stamp
	$(PYTEST) $(PARALLEL) -m "not slow" $(OTHERS) $(ARGS)

# What costs much and seldom finds what the others do not; each says its reason.
test-slow: .venv/test.stamp
	$(PYTEST) $(PARALLEL) -m slow $(OTHERS) $(ARGS)

test-all: .venv/test.stamp
	$(MAKE) test
	$(MAKE) test-slow

# Other services' packages and agent frameworks speak with this server.
test-clients: .venv/test.stamp clients
	$(PYTEST) tests/clients $(ARGS)

# A gateway before a real Ray, two minutes. Ray has an environment of its own: 1 minute and 0.6 GB.
test-ray: .venv/test.stamp .venv/ray/stamp
	$(PYTEST) tests/engines/remote/test_ray.py $(ARGS)

# README and docs/: every command, snippet, transcript and link; examples/.
docs-check: .venv/test.stamp
	$(PYTEST) tests/docs tests/examples $(ARGS)

# What they need, each with versions of its own: 5 s for a package, 20 s and 0.5 GB for a framework.
clients: $(patsubst tests/clients/requirements-%.txt,.venv/clients/%/stamp,\
  $(wildcard tests/clients/requirements-*.txt))

lint: .venv/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/python tests/docs/prose.py

format: .venv/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The kernels' tests with their errors of memory, arithmetic and threads looked for; needs clang.
sanitize: .venv/test.stamp
	$(PYTEST) tests/engines/csm/native -m slow -k "address or undefined or thread" $(ARGS)

bench: .venv/test.stamp
	$(BIN)/python benchmarks/server.py

# The table of docs/security.md, in about a quarter of an hour; it reads /proc.
hazards: .venv/test.stamp
	$(BIN)/python benchmarks/hazards

clean:
	rm -rf .venv

.venv/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "tts-provider needs Python 3.10 or later: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	touch $@

.venv/run.stamp: .venv/python.stamp pyproject.toml requirements.txt constraints.txt $(KERNELS)
	@echo "Installing into .venv, which takes a minute the first time."
	$(PIP) install --quiet --requirement requirements.txt
	touch $@

.venv/test.stamp: .venv/run.stamp requirements-test.txt
	$(PIP) install --quiet --constraint constraints.txt --requirement requirements-test.txt
	touch $@

.venv/ray/stamp: .venv/python.stamp pyproject.toml constraints.txt tests/engines/remote/requirements-ray.txt \
  tests/engines/remote/constraints-ray.txt
	$(BIN)/python -m venv .venv/ray
	.venv/ray/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt \
	  --constraint tests/engines/remote/constraints-ray.txt \
	  --requirement tests/engines/remote/requirements-ray.txt
	touch $@

.venv/clients/%/stamp: .venv/python.stamp tests/clients/requirements-%.txt tests/clients/constraints-%.txt
	$(BIN)/python -m venv .venv/clients/$*
	.venv/clients/$*/bin/python -m pip install --disable-pip-version-check --quiet \
	  --requirement tests/clients/requirements-$*.txt
	touch $@
