# Two commands matter: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
UV ?= uv
DATA ?= .demo/digits
BIN := .venv/bin
ENV := .venv/.installed
DEMO_OUTPUTS := .demo/outputs
# Every process that a test or a job starts imports our packages: compiled once, they load a second sooner.
unexport PYTHONDONTWRITEBYTECODE

QUICK := "not gpu and not browser and not slow"
SYNC := $(if $(filter-out 3.%,$(MAKE_VERSION)),--output-sync=target)

.PHONY: help install demo test test-distributed test-others test-all lint lock clean

help: ## What there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install: $(ENV) ## Make the environment in .venv from requirements.lock

$(ENV): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 2; }
	@echo "making .venv from requirements.lock (some minutes; log in .venv/install.log)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --require-hashes --no-deps -r requirements.lock > .venv/install.log 2>&1 \
	  && $(BIN)/python -m pip install --disable-pip-version-check --no-input --no-deps --no-build-isolation -e . >> .venv/install.log 2>&1 \
	  || { grep -v '^WARNING' .venv/install.log | tail -n 40 >&2; exit 1; }
	@touch $(ENV)

demo: $(ENV) ## Fine-tune on handwritten digits, or on DATA=DIR, with two workers
	@test "$(DATA)" != .demo/digits || $(BIN)/resnet-dist data sample digits .demo/digits
	@$(BIN)/python -m ray_jobs.cli.demo "$(DATA)" $(DEMO_OUTPUTS)

# Distributed tests take turns on one Ray, which leaves cores idle while its workers start; the other tests run beside
# them. Each half prints what it has to say when it is done, so that they do not interrupt each other.
test: lint ## Linters, types, import contracts and the tests that need no GPU, browser or long run
	@$(MAKE) --no-print-directory -j2 $(SYNC) test-distributed test-others

test-distributed: $(ENV)
	@$(BIN)/python -m pytest tests/distributed --timeout 600 -m $(QUICK)

# A process that dies ends the tests: pytest-xdist would wait without end for what a replaced one was to do.
test-others: $(ENV)
	@$(BIN)/python -m pytest tests/unit tests/integration tests/manifests -n auto --dist loadfile --max-worker-restart 0 -m $(QUICK)

test-all: lint ## All tests that this machine can run
	@$(BIN)/python -m pytest tests/unit tests/integration tests/manifests -n auto --dist loadfile --max-worker-restart 0 --timeout 900 --hypothesis-profile thorough
	@$(BIN)/python -m pytest tests/gpu tests/distributed --timeout 900 --hypothesis-profile thorough

lint: $(ENV) ## Linters, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports

# All but gpu-runtime: onnxruntime-gpu brings the files of onnxruntime.
LOCKED := train cluster export openvino storage signing report tracking

lock: ## Resolve requirements.lock again (needs uv)
	$(UV) pip compile --universal --generate-hashes $(LOCKED:%=--extra %) --group dev --no-emit-index-url --no-header --python-version 3.11 pyproject.toml -o requirements.lock

clean: ## Remove the environment and the demo's files
	rm -rf .venv .demo
