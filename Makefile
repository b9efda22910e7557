# Two commands matter: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
UV ?= uv
DATA ?= .demo/digits
BIN := .venv/bin
ENV := .venv/.installed
DEMO_OUTPUTS := .demo/outputs
# Every process that a test or a job starts imports our packages: compiled once, they load a second sooner.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-all lint lock clean

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

# Two files of distributed tests at a time, as one leaves a core idle while its Ray and its workers start. By default xdist
# begins with the files of most tests; here the longest have few, so the order of names is kept.
test: lint ## Linters, types, import contracts and the tests that need no GPU, browser or long run
	@$(BIN)/python -m pytest tests/unit tests/integration tests/manifests -n auto --dist loadfile -m "not gpu and not browser and not slow"
	@$(BIN)/python -m pytest tests/distributed -n 2 --dist loadfile --no-loadscope-reorder --timeout 600 -m "not gpu and not browser and not slow"

test-all: lint ## All tests that this machine can run
	@$(BIN)/python -m pytest tests/unit tests/integration tests/manifests -n auto --dist loadfile --timeout 900 --hypothesis-profile thorough
	@$(BIN)/python -m pytest tests/gpu tests/distributed --timeout 900 --hypothesis-profile thorough

lint: $(ENV) ## Linters, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports

lock: ## Resolve requirements.lock again (needs uv)
	$(UV) pip compile --universal --generate-hashes --all-extras --group dev --no-emit-index-url --no-header --python-version 3.11 pyproject.toml -o requirements.lock

clean: ## Remove the environment and the demo's files
	rm -rf .venv .demo
