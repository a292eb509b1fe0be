# `make demo` shows the suite at work, `make test` runs every test. Nothing else needs typing on a fresh machine.
SHELL := /bin/bash
SWIFT_FLAGS ?= -c release -Xswiftc -enable-testing
BIN := .build/release
TEST := swift test $(SWIFT_FLAGS) --skip-build

.PHONY: help demo test unit lab build examples interop bench fuzz soak lint format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## three hosts, encrypted peers, containers, a relay, a crash and its healing
	@Scripts/bootstrap
	@Scripts/build $(SWIFT_FLAGS) --product weaver
	@Scripts/build $(SWIFT_FLAGS) --product weave
	@Scripts/demo $(BIN)

test: ## every test, the slow suites in their short form
	@Scripts/bootstrap
	@Scripts/build $(SWIFT_FLAGS) --build-tests
	@Scripts/test $(SWIFT_FLAGS)
	@$(MAKE) --no-print-directory examples

build: ## weaver, weave and all libraries
	@Scripts/bootstrap build
	swift build $(SWIFT_FLAGS)

examples: ## builds the example programs and runs those that need no root
	@Scripts/examples

interop: ## against a real 2.8.1 weaver: make interop REFERENCE_WEAVER=/path/to/weaver; LONG=1 adds half an hour
	@Scripts/bootstrap
	@Scripts/build $(SWIFT_FLAGS) --build-tests
	@REFERENCE_WEAVER="$(REFERENCE_WEAVER)" WEAVE_LONG="$(LONG)" $(TEST) --no-parallel --filter InteropTests

bench: ## throughput table and Benchmarks/results/latest.json; REFERENCE_WEAVER= adds the reference
	@Scripts/bootstrap
	@Scripts/build $(SWIFT_FLAGS) --product weaver
	@Scripts/bench $(BIN)

fuzz: ## each parser of foreign bytes, fuzzed: make fuzz SECONDS=600 (default 60 for each)
	@Scripts/bootstrap
	@Scripts/fuzz $(or $(SECONDS),60)

soak: ## 200 crashes, simulators with many more seeds, an hour of traffic with faults: make soak SEEDS=2000 MINUTES=60
	@Scripts/bootstrap
	@Scripts/build $(SWIFT_FLAGS) --build-tests
	@WEAVE_CRASHES=200 $(TEST) --filter AddressCrashTests
	@IPAM_SEEDS=$(or $(SEEDS),300) IPAM_OPERATIONS=2000 $(TEST) --filter AllocatorSimulation
	@WEAVE_SIM_SEEDS=$(or $(SEEDS),200) WEAVE_SIM_LARGE=$(or $(PEERS),100) $(TEST) --filter SimulatorTests
	@WEAVE_ENDURANCE_MINUTES=$(or $(MINUTES),60) $(TEST) --filter EnduranceTests

lint: ## the house rules alone
	@Scripts/build $(SWIFT_FLAGS) --build-tests
	@$(TEST) --filter HouseTests

format: ## rewrites the sources in the project's format
	swift format --in-place --recursive Sources Tests Examples Benchmarks

clean:
	rm -rf .build Examples/.build Benchmarks/.build Fuzz/.build
