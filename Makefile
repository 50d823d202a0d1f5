# Every target sets itself up: all it needs is Python >= 3.11 (with venv) and make.
# What is installed is kept in .venv; a stamp under .venv/.done says what has been put there.
PYTHON ?= python3
BIN := .venv/bin
DONE := .venv/.done
UV := $(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt
SPEC := pyproject.toml constraints.txt
# Kept bytecode is half of a process's start, and tests start a hundred of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all demo test lint bench soak services services-stop clean

all: $(DONE)/all  ## install every extra

demo: $(DONE)/core  ## the twin of this machine and a simulated interferometer, live
	$(BIN)/twin-engine demo $(DEMO)

test: $(DONE)/dev  ## all tests but the long ones
	$(BIN)/python -m pytest -n 4 $(TEST)

lint: $(DONE)/dev  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(DONE)/bench  ## the engine against its peers, speed ratios printed
	$(BIN)/python -m bench

soak: $(DONE)/bench services  ## the long tests: kill -9 at 50 moments, memory over an hour of simulated time, the ladder's top rung for an hour
	$(BIN)/python -m pytest -m soak $(TEST)
	$(BIN)/python -m bench.memory --hours 1
	set -a; . ./.services.env; $(BIN)/python -m bench.ladder --rungs 4 --seconds 3600

services:  ## Kafka, Mosquitto and InfluxDB on free loopback ports, found or fetched; .services.env says where
	@$(PYTHON) -m compose.services start

services-stop:  ## end exactly those, and remove their data
	@$(PYTHON) -m compose.services stop

clean:
	rm -rf .venv dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: expected Python >= 3.11, found $$($(PYTHON) --version). Give another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check 'uv>=0.7,<1'

$(DONE)/core: $(SPEC) | $(BIN)/uv
	$(UV) -e '.[mqtt]'
	@mkdir -p $(DONE) && touch $@

# Bytecode is compiled here, once: the tests' four workers would each do it for themselves, all at once.
$(DONE)/dev: $(SPEC) | $(BIN)/uv
	$(UV) --compile-bytecode -e '.[gw,history,influx,kafka,mqtt,service]' --group dev
	@mkdir -p $(DONE) && touch $@ $(DONE)/core

$(DONE)/bench: $(SPEC) | $(BIN)/uv
	$(UV) -e '.[gw,history,influx,kafka,mqtt,service]' --group dev --group bench
	@mkdir -p $(DONE) && touch $@ $(DONE)/dev $(DONE)/core

$(DONE)/all: $(SPEC) | $(BIN)/uv
	$(UV) -e '.[all]' --group dev
	@mkdir -p $(DONE) && touch $@ $(DONE)/dev $(DONE)/core
