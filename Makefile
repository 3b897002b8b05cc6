# Each target sets up what it needs; `make help` lists them. The work is done by the scripts of ops/dev.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build demo test test-long test-interop test-telemetry test-image test-matrix bench ci fmt clippy docs tools test-tools clean-services

CARGO ?= cargo
export CARGO
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## list the targets
	@grep -E '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## (.*)/\1\t\2/' | expand -t 16

build: tools ## the release binaries, target/release/lockgate and email-sender
	$(CARGO) build --release --locked -p lockgate-workflows --bins

demo: ## the whole path on servers of its own; KEEP=1 leaves it running
	ops/dev/demo.sh

test: tools test-tools ## all tests but the long ones, on servers of their own
	ops/dev/test.sh short build
	ops/dev/with-services.sh ops/dev/test.sh short

test-long: tools ## the long_* tests: kill loops, freezes, full disk, a million rows, PgBouncer, another Postgres, Java
	ops/dev/test.sh long build
	ops/dev/with-services.sh --services "postgres kafka pgbouncer" ops/dev/test.sh long

test-interop: tools ## a Java consumer reads what Lockgate sends (Maven)
	ops/dev/with-services.sh ops/dev/interop.sh

test-telemetry: tools ## what replicas tell, read back from a real Collector and Prometheus (built once from Go modules)
	ops/dev/test-telemetry.sh

test-image: tools ## the image, built and run with docker or podman as nobody on a read-only root
	ops/dev/with-services.sh ops/dev/test-image.sh

test-matrix: tools test-tools ## the conformance suites through PgBouncer, and on another release of Postgres
	ops/dev/test.sh matrix build
	ops/dev/with-services.sh --services "postgres pgbouncer" ops/dev/test.sh matrix

test-on-%: tools test-tools ## all tests but the long ones on a release of Postgres: test-on-14 to test-on-18
	ops/dev/test.sh short build
	export PG_BIN=$$(ops/dev/postgres-binaries.sh $*); exec ops/dev/with-services.sh ops/dev/test.sh short

bench: bench-fanout bench-commands bench-sender bench-workflows ## everything; JSON to standard output and target/bench/NAME.json

bench-%: build ## one of them; or bench-outbox or bench-http, parts of commands; or bench-replicas, bench-capacity or bench-telemetry, for docs/capacity.md; BENCH_ARGS are its options
	mkdir -p $(TARGET)/bench
	ops/dev/with-services.sh bash -o pipefail -c \
	  '$(TARGET)/release/lockgate bench $* --output json $(BENCH_ARGS) | tee $(TARGET)/bench/$*.part'
	mv $(TARGET)/bench/$*.part $(TARGET)/bench/$*.json

ci: fmt clippy docs test ## what must be green before a change is offered

fmt: tools ## is the code formatted?
	$(CARGO) fmt --all --check

clippy: tools ## lints, with and without the fail points
	$(CARGO) clippy --workspace --all-targets --all-features --locked -- -D warnings
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs: tools ## do the documentation pages build without a warning?
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace --locked

tools:
	@ops/dev/services.sh tools build

# Some tests start a pooler of their own.
test-tools:
	@ops/dev/services.sh tools pgbouncer

clean-services: ## take down every server of this checkout, also those of runs that were cut off
	for dir in .dev/*/; do [ ! -d "$$dir" ] || LOCKGATE_SERVICES_DIR="$$dir" ops/dev/services.sh down; done
