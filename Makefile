# `make test` needs nothing prepared. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
PYTEST_ARGS ?=
BENCH_ARGS ?=
T ?= tests
IMAGE ?= pycdc
SECONDS ?= 20
WORKERS ?= 6
UNIT_WORKERS ?= 2
TIMES ?= 10
CHAOS_SECONDS ?= 300
CHAOS_ROUNDS ?= 200
CHAOS_SEED ?= 20261130
FUZZ_SECONDS ?= 60
TRANSACTIONS ?= 20000
SEEDS ?= 10000
VERIFICATIONS ?= 10000
EXAMPLES ?= 20

# Programs that the tests start would be compiled each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv servers test collected test-ten check format unit demo demo-two-way migration docs site release-check lock image chaos chaos-cutover chaos-ddl chaos-examples chaos-exactly-once chaos-fuzz chaos-handoff chaos-keys chaos-large chaos-points chaos-promotion chaos-reconnects chaos-simulator chaos-snapshot chaos-streaming chaos-types chaos-verify bench bench-quick clean mutants

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

venv: $(VENV)/.installed ## The virtual environment, anew when pyproject.toml changed

$(VENV)/.installed: pyproject.toml
	@scripts/make-venv.sh $(PYTHON) $(VENV)
	@touch $@

servers: ## What the tests' servers need, as far as it can be installed here
	@scripts/install-test-servers.sh

test: venv servers ## Everything: the checks, then all tests on real servers, side by side in WORKERS=6 processes
	@$(MAKE) --no-print-directory --jobs 2 check collected
	$(PYTEST) --numprocesses $(WORKERS) $(PYTEST_ARGS)

test-ten: venv servers ## The tests that use servers, TIMES=10 times, with a report of each in build/test-ten
	scripts/repeat-tests.sh $(BIN)/python $(TIMES) build/test-ten --numprocesses $(WORKERS) $(PYTEST_ARGS)

# Once, so that the workers find the tests compiled: else each of them compiles all. What fails here fails there too.
collected: venv
	@$(PYTEST) --collect-only --quiet $(PYTEST_ARGS) >/dev/null || true

check: venv ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv ## Put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: venv ## The tests that need no server; of one part in seconds: T=tests/rows/codecs
	$(PYTEST) -m "not server and not slow" --numprocesses $(UNIT_WORKERS) $(T) $(PYTEST_ARGS)

lock: ## Write the lock files anew: the newest versions that pyproject.toml allows, with their hashes
	@scripts/lock.sh $(PYTHON)

image: ## The image, with a bill of materials and provenance: IMAGE=pycdc
	docker buildx build --sbom=true --provenance=mode=max --tag $(IMAGE) .

site: $(VENV)/.docs ## The documentation site, in build/site; a broken link or a page that is not listed fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean

$(VENV)/.docs: $(VENV)/.installed
	@scripts/make-venv.sh $(PYTHON) $(VENV) docs
	@touch $@

release-check: $(VENV)/.release ## Build the wheel and try it in an empty environment, as docs/releasing.md says
	scripts/release-check.sh $(PYTHON) $(VENV)

$(VENV)/.release: $(VENV)/.installed
	@scripts/make-venv.sh $(PYTHON) $(VENV) release
	@touch $@

docs: venv ## Write the generated pages anew: configuration, command line, types
	$(BIN)/python -m scripts.docs.configuration_page
	$(BIN)/python -m scripts.docs.types_page > docs/types.md

chaos-handoff: venv servers ## 1,000 hand-overs from snapshot to stream under 32 writers
	PYCDC_HANDOVERS=1000 PYCDC_HANDOVER_WRITERS=32 $(PYTEST) tests/faults/test_handover.py $(PYTEST_ARGS)

chaos-snapshot: venv servers ## The snapshot of 10,000,000 rows, killed three times: topic and table are compared
	PYCDC_SNAPSHOT_ROWS=10000000 PYCDC_SNAPSHOT_KILLS=3 $(PYTEST) -s tests/faults/test_kill_large_snapshot.py $(PYTEST_ARGS)
	PYCDC_KILL_ROWS=1000000 PYCDC_KILLS=20 $(PYTEST) tests/faults/test_kill_keys.py $(PYTEST_ARGS)

chaos-ddl: venv servers ## 200 rounds of DDL, locks and ended sessions at any moment of a capture: CHAOS_ROUNDS=200 CHAOS_SEED=1
	PYCDC_CHAOS_ROUNDS=$(CHAOS_ROUNDS) PYCDC_CHAOS_SEED=$(CHAOS_SEED) $(PYTEST) tests/chaos $(PYTEST_ARGS)

chaos-examples: venv servers ## Every property with EXAMPLES=20 times as many generated examples
	PYCDC_EXAMPLES=$(EXAMPLES) $(PYTEST) -m hypothesis --numprocesses $(UNIT_WORKERS) $(PYTEST_ARGS)

chaos-exactly-once: venv servers ## Exactly-once delivery killed and frozen in 20 rounds, brokers killed 40 times, one or three of them, on two versions of Kafka
	for kafka in 4.3.0 4.4.0; do for transactions in 1 2; do \
		PYCDC_EXACTLY_ONCE_ROUNDS=20 PYCDC_BROKER_KILLS=40 PYCDC_TEST_KAFKA_VERSION=$$kafka \
			PYCDC_TEST_TRANSACTION_VERSION=$$transactions $(PYTEST) -s tests/faults/test_exactly_once.py \
			tests/faults/test_exactly_once_topics.py tests/faults/test_standby.py tests/sinks/kafka/test_transactional.py $(PYTEST_ARGS) || exit; \
		PYCDC_TEST_BROKERS=3 PYCDC_BROKER_KILLS=40 PYCDC_TEST_KAFKA_VERSION=$$kafka \
			PYCDC_TEST_TRANSACTION_VERSION=$$transactions $(PYTEST) -s tests/faults/test_broker_kills.py $(PYTEST_ARGS) || exit; \
	done; done

chaos-points: venv servers ## A kill, an exception or a hang at each of 705 points, on the way of both deliveries: CHAOS_SEED=1
	PYCDC_CRASH_POINTS=1 PYCDC_CHAOS_SEED=$(CHAOS_SEED) $(PYTEST) --numprocesses 2 tests/faults/test_crash_points.py $(PYTEST_ARGS)

chaos-promotion: venv servers ## 20 promotions of a standby of the source under writers: what was confirmed arrives
	PYCDC_PROMOTIONS=20 $(PYTEST) tests/faults/test_promotion.py $(PYTEST_ARGS)

chaos-reconnects: venv servers ## 1,000 sessions that are ended: descriptors, threads and memory stay flat
	PYCDC_RECONNECTS=1000 $(PYTEST) -s tests/faults/test_reconnects.py $(PYTEST_ARGS)

chaos-large: venv servers ## A transaction with 1,000,000 within it
	PYCDC_SUBTRANSACTIONS=1000000 $(PYTEST) tests/connectors/postgres/replication/test_large_transactions.py $(PYTEST_ARGS)

chaos-streaming: venv servers ## Random transactions that are streamed or prepared, on every Postgres, the pipeline killed 20 times: CHAOS_SEED=1
	PYCDC_STREAMING_ROUNDS=20 PYCDC_CHAOS_SEED=$(CHAOS_SEED) $(PYTEST) tests/faults/test_streaming.py \
		tests/faults/test_two_phase.py $(PYTEST_ARGS)

chaos-fuzz: venv ## Every parser of strangers' bytes under a coverage-guided fuzzer: FUZZ_SECONDS=60 each
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

chaos: venv servers chaos-fuzz ## The way back killed, frozen and in a loop for minutes, all of it on every Postgres: CHAOS_SECONDS=300
	PYCDC_TEST_EVERY_POSTGRES=1 PYCDC_LOOP_WRITES=100000 PYCDC_CHAOS_SECONDS=$(CHAOS_SECONDS) $(PYTEST) \
		tests/reverse tests/sinks/postgres tests/schema_changes tests/cli/test_writability.py \
		tests/test_types_on_servers.py $(PYTEST_ARGS)

mutants: venv servers ## Known bugs, put back one at a time: the tests have to catch each
	PYCDC_MUTANTS=1 $(PYTEST) tests/chaos/test_mutants.py $(PYTEST_ARGS)

chaos-cutover: venv servers ## Cut-overs that are killed at each of their steps, forth and back; one of 3,000,000 rows
	PYCDC_CUTOVER_KILLS=all $(PYTEST) -s tests/operations/cutover -k kill $(PYTEST_ARGS)
	PYCDC_CUTOVER_ROWS=3000000 $(PYTEST) -s tests/operations/cutover -k take_longer $(PYTEST_ARGS)

chaos-simulator: venv ## Captures with a simulated server, brokers and clock, where anything may fail at any point: SEEDS=10000
	PYCDC_SIMULATOR_SEEDS=$(SEEDS) $(PYTEST) tests/chaos/test_simulator.py $(PYTEST_ARGS)

chaos-types: venv servers ## 20,000 random transactions over random tables of all types, from one database into another
	PYCDC_CHAOS_TRANSACTIONS=$(TRANSACTIONS) $(PYTEST) -s tests/chaos/test_types.py $(PYTEST_ARGS)

chaos-keys: venv ## Rows of random transactions take each other's keys; batches end anywhere, in one partition and several: SEEDS=10000
	PYCDC_CHAOS_KEYS=$(SEEDS) $(PYTEST) tests/sinks/postgres/writing/test_keys_over_batches.py $(PYTEST_ARGS)

chaos-verify: venv servers ## 10,000 verifications under writers, with kills and schema changes; planted faults and mutants: VERIFICATIONS=10000
	PYCDC_CHAOS_VERIFICATIONS=$(VERIFICATIONS) PYCDC_MUTANTS=1 $(PYTEST) tests/chaos/test_verify.py \
		tests/chaos/test_verify_mutants.py tests/operations/verify $(PYTEST_ARGS)

bench: venv servers ## All benchmarks beside their peers, half an hour: BENCH_ARGS='--only latency --without-peers', '--resume'
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-quick: venv servers ## The same small, in minutes: whether they work, not what they find
	$(BIN)/python -m benchmarks --quick $(BENCH_ARGS)

demo: venv ## A shop, Postgres and Kafka in one process: SECONDS=20
	$(BIN)/pycdc demo --seconds $(SECONDS)

demo-two-way: venv ## Two databases that follow each other, compared at the end: SECONDS=20
	$(BIN)/pycdc demo --two-way --seconds $(SECONDS)

migration: venv ## An inventory moves out of its monolith, and back and forth, under load; a missed goal fails: SECONDS=20 CHAOS=1 SEED=1
	$(BIN)/python -m examples.inventory.migration --seconds $(SECONDS) $(if $(CHAOS),--chaos) $(if $(SEED),--seed $(SEED))

clean: ## Remove what was made here; servers stay in the user's cache folder
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
