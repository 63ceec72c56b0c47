# `make demo` and `make test` need Python 3.11 and make, nothing else of ours.
PYTHON ?= python3
BIN := .venv/bin
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
# A dozen processes would each compile everything that they import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check bench fuzz mutants clean

.venv: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	@touch $@

demo: .venv
	$(BIN)/zhiyin demo

check: .venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pip check

# One thread of linear algebra for each process: several would spin for the same cores. Files in the order of their
# names, so that the slow ones, which start whole federations, come first and the quick ones even out the end.
test: export OMP_NUM_THREADS ?= 1
test: check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

bench: .venv
	$(BIN)/python -m benchmarks.secagg_masks
	$(BIN)/python -m benchmarks.secagg_rounds
	$(BIN)/python -m benchmarks.platform_load

# Ten minutes over all parsers; `make fuzz SECONDS=3600`, `make fuzz TARGET=message`.
SECONDS ?= 600
fuzz: export OMP_NUM_THREADS ?= 1
fuzz: .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement tests/fuzz/constraints.txt
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(if $(TARGET),--target $(TARGET))

# Takes each security guard out in turn, in a copy of the tree; `make mutants ONLY="helper: batch of one"`.
mutants: .venv
	$(BIN)/python -m tests.mutants.run $(if $(ONLY),--only "$(ONLY)")

clean:
	rm -rf .venv build demo-out
