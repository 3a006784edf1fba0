# Entry points. `make demo` and `make test` need nothing but a Linux machine with root; see README.md and docs/lab.md.
#
#   make demo                 the whole story in the lab: provision, write, kill the primary, count the writes
#   make demo APP=postgres    the same with PostgreSQL      RUNS=20: repeat      KEEP=1: leave the lab up
#   make test                 everything that can run here  CI=true: a missing piece is a failure
#   make check                style, types, layers and the tests that need no lab
#   make sim SEEDS=10000      the decision core against a simulated world with faults, and against bugs put into it on
#                             purpose: build/sim.json; FIRST=seed to begin with
#   make sim-million          a million schedules in slices, goes on where it was interrupted: bench/results/sim.json
#   make torture              1,000,000 random operations with engines killed, databases on machines switched off, git and
#                             gcc on the mount (an hour); its parts: torture-fsx, torture-databases, torture-trees
#   make rollout              a cluster of an older release is upgraded under load, then its configuration is changed
#   make faults               some seventy accidents done to a real cluster in the lab, 20 minutes   ONLY=text RUNS=3
#   make calm MINUTES=30      a bad day without an accident: nobody may take over
#   make fuzz SECONDS_EACH=60 coverage-guided fuzzing of what reads the bytes of the other node (x86-64; installs atheris)
#   make bench                measure the mirror against raw ext4 and GlusterFS (a quarter of an hour)  QUICK=1: few rows, a minute
#   make browser              a browser drives both consoles against a cluster in the lab: create, lose, resync, swap, delete
#   make farm                 farms of 2, 3 and 4 nodes in the lab: one is lost under load, comes back, is stopped   NODES=3
#   make pair                 the template for a pair without a control plane: deployed, used, a machine killed and replaced
#   make screenshots          pictures of the console's pages, in docs/img
#   make windows             the agent on Windows as far as Wine shows it: its portable tests, the application, a whole agent
#   make front-library        the mirror's lab tests on its second front, through a FUSE library
#   make setup                only install what the others need

SHELL := /bin/bash
APP ?= ledger
RUNS ?= 1
KEEP ?=
SEEDS ?= 10000
FIRST ?= 0
MINUTES ?= 30
SECONDS_EACH ?= 60
ONLY ?=
NODES ?=
export ONLY
TORTURE_SEEDS ?= 0-19
TORTURE_KILLS ?= 50
PYTHON_BIN := .venv/bin
SOURCES := agent cli shared functions lab tests bench tools $(wildcard function_app.py)

.PHONY: windows windows-shaped pair browser front-library calm farm faults fuzz options rollout torture torture-fsx torture-databases torture-trees setup-tests screenshots bench-control-plane setup setup-lenient demo test bench check lint down sim sim-million watch

setup:
	@tools/setup.sh --app $(APP)

# Without root, FUSE or namespaces the rest must still run: exit 3 says so, and the tests name what they skip.
setup-lenient:
	@tools/setup.sh --lenient --browser || [ $$? -eq 3 ]

# What only the tests need beyond it: PostgreSQL, git and a compiler.
setup-tests:
	@tools/setup.sh --lenient --browser --tests || [ $$? -eq 3 ]

demo: setup
	@APP=$(APP) RUNS=$(RUNS) KEEP=$(KEEP) $(PYTHON_BIN)/python -m lab.demo $(APP)

test: setup-tests lint
	@$(PYTHON_BIN)/python -m pytest

check: setup-lenient lint
	@$(PYTHON_BIN)/python -m pytest -m "not lab"

bench: setup-lenient
	@QUICK=$(QUICK) $(PYTHON_BIN)/python -m bench.mirror

# Heartbeat ingest through host and Azurite, the audit of 100/1,000/10,000 clusters, cost per cluster; about 4 minutes.
bench-control-plane: setup-lenient
	@PYTHONPATH=.:agent $(PYTHON_BIN)/python -m bench.control_plane

# Accidents repaired by the control plane, and a node that fences itself, each in a lab of its own: half an hour in all.
watch: setup
	@$(PYTHON_BIN)/python -m pytest -m watch tests/lab/watch

# A cluster in somebody else's network behind an internal load balancer, in a lab of its own; some minutes.
options: setup
	@$(PYTHON_BIN)/python -m pytest -m options tests/lab/options

# A cluster of Windows nodes from request to deletion, on Linux VMs that stand in for them (docs/lab-arm.md); needs Wine.
windows-shaped: setup
	@$(PYTHON_BIN)/python -m pytest -m windows_shaped -s tests/lab/windows_shaped

# Farms of two, three and four nodes, each in a lab of its own, under client load: nodes are lost and come back, are
# repaired and upgraded; one stands behind an internal load balancer; before that their agents alone. Half an hour and
# more; result: build/farm.json.  NODES=3: only that farm
farm: setup
	@$(PYTHON_BIN)/python -m pytest -m farm -s tests/lab/farm $(if $(NODES),-k "agents or $(NODES)")

# The template for a pair without a control plane, deployed in a lab: boot, access, failover, a machine replaced.
pair: setup
	@$(PYTHON_BIN)/python -m pytest -m pair tests/lab/pair

# Agents and a configuration changed under load, one node at a time, in a lab of its own; a quarter of an hour.
# Result: build/rollout.json
rollout: setup
	@$(PYTHON_BIN)/python -m pytest -m rollout -s tests/lab/rollout

# From the form of a new cluster to its deletion, with a failover in between; a few minutes.
browser: setup-lenient
	@$(PYTHON_BIN)/python -m pytest -m flow -s tests/lab/browser/flow

# The pages of both consoles with an invented fleet; all looks and sizes are in build/screens.
screenshots: setup-lenient
	@$(PYTHON_BIN)/python -m pytest -q tests/lab/browser/test_screens.py tests/lab/browser/test_node_screens.py
	@mkdir -p docs/img
	@for name in fleet-light cluster-light exposed-dark new-light fleet-phone node-light node-force-light; do cp build/screens/$$name.png docs/img/; done

# Every part adds its rows to build/torture.json; the last step sums them up and fails if one was not clean.
torture: setup-tests torture-fsx torture-databases torture-trees
	@$(PYTHON_BIN)/python -m tests.lab.torture summary

torture-fsx: setup-tests
	@PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.lab.torture plain --seeds 0-4
	@for mode in strict ordered; do PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.lab.torture fsx --mode $$mode --seeds $(TORTURE_SEEDS) --operations 25000 --accidents 6 || exit 1; done

torture-databases: setup-tests
	@for mode in strict ordered; do PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.lab.torture databases --mode $$mode --kills $(TORTURE_KILLS) || exit 1; done

torture-trees: setup-tests
	@for mode in strict ordered; do for part in worktree directory; do PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.lab.torture $$part --mode $$mode || exit 1; done; done

# The mirror's suite on the front through a FUSE library (libfuse 3 here, WinFsp has the same interface); ten minutes.
front-library: setup-tests
	@MIRROR_FRONT=library $(PYTHON_BIN)/python -m pytest tests/lab/mirror

lint:
	@$(PYTHON_BIN)/ruff format --check $(SOURCES)
	@$(PYTHON_BIN)/ruff check $(SOURCES)
	@$(PYTHON_BIN)/mypy
	@$(PYTHON_BIN)/mypy --python-version 3.11 --cache-dir .mypy_cache/agent agent/mirror_agent  # the oldest a node may have
	@$(PYTHON_BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 --follow-imports silent $$($(PYTHON_BIN)/python tools/windows_parts.py --files) tests/windows/*.py
	@$(PYTHON_BIN)/lint-imports

# A Python for Windows is made first (some 70 MB are fetched once), see tools/windows/python.py.
windows: setup-lenient
	@$(PYTHON_BIN)/python -m tools.windows.tests

down:
	@$(PYTHON_BIN)/python -m lab down

sim: setup-lenient
	@rm -f build/sim.json
	@PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.sim --compile --seeds $(SEEDS) --first $(FIRST) --sweep 5 --json build/sim.json
	@PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.sim_resync --seeds 1000 --first $(FIRST) --json build/sim.json
	@PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.sim.mutants --known --limit 300 --json build/sim.json

sim-million: setup-lenient
	@PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.sim.million

# Real processes, namespaces, packets and file systems; see docs/faults.md. Result: build/faults.json.
faults: setup
	@$(PYTHON_BIN)/python -m lab.faults --runs $(RUNS) $(if $(ONLY),--only "$$ONLY")

calm: setup
	@$(PYTHON_BIN)/python -m lab.faults.calm --minutes $(MINUTES)

# What reads the peer's bytes, and a replica's files under frames nobody would send; finds go to build/fuzz.
fuzz: setup-lenient
	@$(PYTHON_BIN)/python -m pip install -q -r requirements-fuzz.txt
	@for target in parsers replica; do PYTHONPATH=.:agent $(PYTHON_BIN)/python -m tests.fuzz $$target --seconds $(SECONDS_EACH) || exit 1; done
