# Everything here needs Go and make. Only the lint targets fetch a linter,
# and only the compose targets need docker and docker-compose.

GO           ?= go
VERSION      := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BUILD        := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
LINT_VERSION := v2.15.0
LINT         := .cache/bin/$(LINT_VERSION)/golangci-lint
COMPOSE      ?= $(if $(shell command -v docker-compose 2>/dev/null),docker-compose,docker compose)
# The race detector needs a C compiler; without one the tests run all the same.
RACE          = $(if $(shell command -v $$($(GO) env CC) 2>/dev/null),-race)
TEST          = CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) -count=1 -timeout 15m $(TESTFLAGS)
BENCH         = $(GO) run ./e2e/bench -install
BENCHTIME    ?= 200ms

.DEFAULT_GOAL := help
.PHONY: help build demo dev test check lint fmt fuzz e2e sim e2e-sweep e2e-visitors e2e-canary e2e-servers e2e-nodes e2e-faults e2e-compose model images up down bench bench-all clean race-note FORCE

help: ## Show this help
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r t d; do printf '  %-12s %s\n' "$$t" "$$d"; done

build: bin/relman ## Build bin/relman, one static binary

demo: bin/relman bin/etcdctl ## Show it: four nodes, publish, flip, roll back; leaves nothing behind
	@$(GO) run ./e2e/demo

dev: bin/relman ## Run a cluster of four nodes here until Ctrl-C
	@bin/relman dev

test: race-note ## Run all tests
	$(TEST) ./...

check: lint test model ## Lint, run all tests, and explore the protocol

lint: $(LINT) ## Run go vet and golangci-lint, which also checks the formatting
	$(GO) vet ./... && $(GO) vet -tags failpoints ./failpoint/... && $(LINT) run

fmt: $(LINT) ## Format all Go files
	$(LINT) fmt

fuzz: ## Run every fuzz test for FUZZTIME (10s)
	@GO="$(GO)" .ci/fuzz "$${FUZZTIME:-10s}"

e2e: race-note ## Run the tests of whole clusters only, verbosely
	$(TEST) -v ./e2e/...

sim: ## Run SIMSEEDS (10000) seeds of the simulation and the planted mistakes; SEED=n [BUG=name] replays one
	$(GO) run ./e2e/sim $(if $(SEED),-seed $(SEED) -bug "$(BUG)",-seeds $${SIMSEEDS:-10000})

e2e-sweep: ## Test 300 publishes against sweeps that follow each other
	RELMAN_SWEEP_ROUNDS=300 $(GO) test -run '^TestSweep_whilePublishing$$' -count=1 -timeout 20m -v ./e2e

e2e-visitors: ## Test what visitors see of flips and outages, over a million answers behind each front
	RELMAN_VISITS=$${RELMAN_VISITS:-1000000} RELMAN_OUTAGE=$${RELMAN_OUTAGE:-60s} RELMAN_DOWNLOAD=$${RELMAN_DOWNLOAD:-524288000} $(GO) test -run '^(TestVisitors|TestPartition|TestOutage|TestDownOverFlips|TestDownload)$$' -count=1 -timeout 30m -v ./e2e

e2e-canary: ## Test what 200,000 page loads see of canaries, promoted and ended
	RELMAN_LOADS=$${RELMAN_LOADS:-200000} $(GO) test -run '^TestCanary' -count=1 -timeout 30m -v ./e2e

e2e-servers: ## Test nginx, Apache and Caddy with deploy/ through a hundred flips under load
	RELMAN_FLIPS=$${RELMAN_FLIPS:-100} $(GO) test -run '^TestServers' -parallel 2 -count=1 -timeout 20m -v ./e2e

e2e-nodes: ## Test what nodes that die, flap or lag do to a flip
	RELMAN_LONG=1 $(GO) test -run '^(TestDeadNode|TestFlappingNode|TestThreeOfFourDead|TestDoctor|TestConfirmWithin|TestScheduledFlips|TestBake)$$' -parallel 3 -count=1 -timeout 15m -v ./e2e

e2e-faults: ## Test real builds, and what is killed or broken between the build and the nodes
	RELMAN_LONG=1 $(GO) test -run '^(TestRealSites|TestPublish_killed|TestPrefetch_killed|TestStoreFaults)$$' -parallel 3 -count=1 -timeout 15m $(TESTFLAGS) ./e2e
	RELMAN_LONG=1 $(GO) test -run '^TestRun' -count=1 -timeout 15m ./e2e/bench

e2e-compose: images ## Test the cluster of docker-compose.yml
	$(GO) test -tags compose -run '^TestCompose$$' -count=1 -timeout 6m -v ./e2e

model: ## Explore the protocol state by state, and delete each guard once
	$(GO) run ./e2e/model $(MODELFLAGS)

images: bin/relman bin/etcd bin/etcdctl ## Make the container images out of the project's own binaries
	deploy/images.sh

up: images ## Start the cluster of docker-compose.yml
	$(COMPOSE) up -d

down: ## Stop it and remove what it stored
	$(COMPOSE) down -v

bench: bin/relman bin/etcd ## Compare with other tools on two sites, and with nginx, and run the benchmarks
	$(BENCH) $(BENCHFLAGS)
	$(GO) run ./e2e/bench serve -install $(SERVEFLAGS)
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -timeout 30m ./...

bench-all: bin/relman bin/etcd ## Compare on every site, with every tool, and on slow lines (hours)
	$(BENCH) -on docs,mkt,etcdio,many10k,many100k,big500,exe -tools all $(BENCHFLAGS)
	$(BENCH) -on docs,mkt,etcdio,exe -rate 1Gbit $(BENCHFLAGS)
	$(BENCH) -on docs,mkt,etcdio,exe -rate 100Mbit $(BENCHFLAGS)

clean: ## Remove what was built
	rm -rf bin .cache

bin/relman: FORCE
	$(BUILD) -o $@ ./cmd/relman

bin/relman-failpoints: FORCE
	$(BUILD) -tags failpoints -o $@ ./cmd/relman

bin/etcd: tools/go.mod tools/go.sum
	CGO_ENABLED=0 $(GO) build -C tools -trimpath -o ../$@ go.etcd.io/etcd/server/v3

bin/etcdctl: tools/go.mod tools/go.sum
	CGO_ENABLED=0 $(GO) build -C tools -trimpath -o ../$@ go.etcd.io/etcd/etcdctl/v3

$(LINT):
	GOBIN=$(abspath $(@D)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

race-note:
	@$(if $(RACE),:,echo '*** There is no C compiler: these tests run WITHOUT the race detector. ***' >&2)

FORCE:
