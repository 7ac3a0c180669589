# The two commands of the README, and what continuous integration runs. Each makes .venv and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow contract check wheel-smoke fit-speed vllm-residuals llama-residuals read-graphs bench-pull bench-verify recordings-table support-table clean

demo: $(VENV)/.installed
	@$(BIN)/v4deploy demo

# Half as many workers again as there are processors: many tests wait for a process or for a time limit.
test: $(VENV)/.installed
	$(BIN)/pytest -n $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 ))

# What the fast suite only samples: a pull killed at 50 moments, hundreds of examples of each property.
test-slow: $(VENV)/.installed
	$(BIN)/pytest -m slow
	$(BIN)/pytest -n auto -m hypothesis --hypothesis-profile thorough

# Asks real engines for their own numbers. They are installed in a cache outside the checkout (XDG_CACHE_HOME) first.
contract: $(VENV)/.installed
	$(BIN)/pytest -m contract tests/contract

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Builds the wheel, installs it into an environment of its own, and uses it away from this checkout.
wheel-smoke: $(VENV)/.installed
	$(BIN)/python .ci/wheel_smoke.py

# Fits the speed model on profiles/speed/measurements.yaml, writes profiles/speed/model.yaml and prints its error.
fit-speed: $(VENV)/.installed
	$(BIN)/python -m tools.fit_speed --write

# How fast `pull` is, beside `hf download` and curl; prints the ratios of one run. Not part of the tests.
bench-pull: $(VENV)/.installed
	$(BIN)/python benchmarks/pull.py

# What each recorded machine of the tests claims, and what the survey makes of it, as markdown.
recordings-table: $(VENV)/.installed
	@$(BIN)/python -m tools.recordings_table

# Writes docs/support.md from the profiles: which engine runs what on which chips, and how far it was tried.
support-table: $(VENV)/.installed
	@$(BIN)/python -m tools.support_table

# How fast `verify` is, beside sha256sum and openssl on as many cores; prints the ratios of one run. Not part of the tests.
bench-verify: $(VENV)/.installed
	$(BIN)/python benchmarks/verify.py

# Prints the table of docs/vllm-memory.md: published figures of vLLM's memory beside ours.
vllm-residuals: $(VENV)/.installed
	@$(BIN)/python -m tests.planning.published_vllm

# Asks the installed llama.cpp for every context of the grid and prints the table of docs/llama-cpp-memory.md.
llama-residuals: $(VENV)/.installed
	@$(BIN)/python -m tests.contract.llama_cpp_grid

# Reads the graphs that the installed llama.cpp reserves memory for, and writes profiles/compute_graphs/llama.cpp.yaml.
read-graphs: $(VENV)/.installed
	$(BIN)/python -m tools.read_compute_graphs --write

clean:
	rm -rf $(VENV) dist build

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "v4deploy needs Python 3.11 or newer; run: make $(MAKECMDGOALS) PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,test]' build
	@touch $@
