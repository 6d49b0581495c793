# make demo and make test are all a person needs; each sets up what it lacks (.ci/setup).

GO       ?= go
LINT     := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
E2E      := ./cmd/torrentfs/e2e
FUZZTIME ?= 1m
KILLS    ?= 1000
SOAK     ?= 10m
RACK     ?= 256

.PHONY: help build vet lint unit e2e test demo bench microbench fuzz faults soak kills nat bounds setup clean
.NOTPARALLEL:

help:           ## list the targets
	@sed -n 's/^\([a-z0-9]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

build:          ## build bin/torrentfs
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/torrentfs ./cmd/torrentfs

demo:           ## mount a swarm made here and prove that its bytes are right
	@.ci/setup demo
	@$(MAKE) --no-print-directory build
	bin/torrentfs demo

test:           ## build, vet, lint, unit and end-to-end tests with the race detector, a second of every fuzz target
	@.ci/setup test
	@$(MAKE) --no-print-directory build vet lint unit e2e
	@$(MAKE) --no-print-directory fuzz FUZZTIME=1s

setup:          ## install what the tests need
	.ci/setup test

vet:            ## go vet
	$(GO) vet ./...

lint:           ## golangci-lint, built from its pinned version
	$(LINT) run ./...

unit:           ## unit tests
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v -e /e2e -e /picker)
	$(GO) test -race -short -timeout 20m ./fetch/picker # the long simulations take minutes under the detector, and
	$(GO) test -timeout 20m ./fetch/picker # are of one goroutine

e2e:            ## end-to-end tests against other people's clients and trackers
	$(GO) test -race -count=1 -parallel 4 -timeout 20m $(E2E)

bench:          ## the mount beside its rivals, on real swarms; a quarter of an hour
	@.ci/setup bench
	$(GO) run ./cmd/torrentfs/bench

microbench:     ## Go benchmarks of single packages
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz:           ## every fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

faults:         ## the long forms of the tests of faults (docs/reliability.md)
	TORRENTFS_FAULTS=1 $(GO) test -count=1 -timeout 0 -v ./fs
	TORRENTFS_FAULTS=1 $(GO) test -count=1 -timeout 0 -v -parallel 4 -run '^TestFault' $(E2E)

soak:           ## read for SOAK while peers lie, die and come back: every byte right, nothing piled up
	TORRENTFS_E2E_SOAK=$(SOAK) $(GO) test -v -count=1 -timeout 0 -run '^TestSoak$$' $(E2E)

kills:          ## kill a mount KILLS times in the middle of reads; bin/kills keeps what a failure left
	mkdir -p bin/kills
	TORRENTFS_E2E_KILLS=$(KILLS) $(GO) test -count=1 -timeout 0 -v -artifacts -outputdir bin/kills -run '^TestKills$$' $(E2E)

nat:            ## mount behind a NAT until the mount finds out that nobody reaches it; about ten minutes
	TORRENTFS_E2E_LONG=1 $(GO) test -count=1 -timeout 0 -v -run '^TestReadOnlyBehindNAT$$' $(E2E)

bounds:         ## read 2 GiB through 64 MiB of memory and 256 MiB of disk, watching both
	TORRENTFS_E2E_LONG=1 $(GO) test -count=1 -v -run '^TestBounds$$' $(E2E)

rack:           ## eight mounts read RACK MiB from one slow seeder, which is to send little more than one copy
	TORRENTFS_E2E_RACK=$(RACK) $(GO) test -count=1 -timeout 0 -v -run '^TestRack$$' $(E2E)

share:          ## what sharing gives and costs, beside libtorrent
	TORRENTFS_E2E_SHARE=1 $(GO) test -count=1 -timeout 0 -v -run '^TestShare' $(E2E)

clean:          ## remove what was built
	rm -rf bin
