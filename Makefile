# `make` prints the targets. What takes more than a few lines is in scripts/.

.DEFAULT_GOAL := help
.PHONY: help go build demo test crash power faults flips durable-crash durable-kills durable-flips session-kills sabotage fuzz fuzz-short bench bench-durable bench-durable-short vm vm-kernels vm-systemd house fmt fmt-check tidy-check vet lint cross ci dist clean

# Tools that are run and not linked; doc/dependencies.md gives the reasons.
export STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.0
export NFPM        := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0

# The product is static; the race detector is the only user of cgo.
export CGO_ENABLED := 0

# scripts/version.sh says which commit it is; Go's own stamp fails in a checkout of another user.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

VERSION = $(shell scripts/version.sh)
LDFLAGS = -s -w -X main.version=$(VERSION)

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

go:
	@scripts/go-version.sh

build: go ## build bin/wakepoint, one static binary
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/wakepoint ./cmd/wakepoint

demo: build ## the whole story in ten seconds, on this machine (as root)
	bin/wakepoint demo

test: go ## set up what the tests need and run them all (as root: nothing skips)
	@scripts/setup-tests.sh
	@scripts/test.sh

N = 10000
SEED = 1
crash: go ## cut the power of the store N times, in any order of things done, from SEED on (a minute)
	@go test -count=1 -timeout 24h -v -run 'TestCrash$$|TestCrashLong' ./internal/store -crash.every -crash.n $(N) -crash.seed $(SEED)

power: N = 1000
power: go ## cut the power under a keeper with a real store and fake programs N times, from SEED on (minutes)
	@go test -count=1 -timeout 24h -v -run 'TestPowerCuts' ./internal/keeper -power.n $(N) -power.seed $(SEED)

flips: go ## flip bits of a store, or cut files, N times from SEED on; prints the table (a minute)
	@go test -count=1 -timeout 24h -v -run 'TestFlips' ./internal/store -flips.n $(N) -flips.seed $(SEED)

durable-crash: N = 100000
durable-crash: go ## cut the power of a durable database N times, and let calls fail as often, from SEED on (ten minutes)
	@go test -count=1 -timeout 24h -v -run 'TestCrash$$|TestCrashLarge$$|TestCrashDamaged$$|TestFault$$' ./durable -crash.n $(N) -crash.seed $(SEED)

durable-kills: N = 1000
durable-kills: go ## kill a process with a durable database N times, from SEED on (minutes)
	@go test -count=1 -timeout 24h -v -run 'TestKills$$' ./durable -kills.n $(N) -kills.seed $(SEED)

durable-flips: go ## flip bits of a durable database N times, from SEED on; prints the table (a minute)
	@go test -count=1 -timeout 24h -v -run 'TestFlips$$' ./durable -flips.n $(N) -flips.seed $(SEED)

session-kills: N = 1000
session-kills: go ## kill a server with sessions N times, clients half as often, and cut connections within frames, from SEED on (five minutes)
	@go test -count=1 -timeout 24h -v -run 'TestKills$$' ./durable/session -kills.n $(N) -kills.seed $(SEED)

EVERY = 1s
SERVER =
faults: N = 100
faults: go ## inject N faults into each of six servers, from SEED on, and recover; prints the table (as root, two hours; see doc/bench.md)
	@go test -count=1 -timeout 24h -v -run 'TestFaults$$|TestFaultsReal' ./internal/keeper -faults.n $(N) -faults.seed $(SEED) -faults.every $(EVERY) -faults.only '$(SERVER)' -faults.newest 50

sabotage: go ## take out each fsync, rename and comparison of a checksum of the store, the log and the library durable in turn: the tests must notice (minutes)
	@go vet -tags sabotage ./internal/seal ./internal/store ./internal/redo ./durable
	@go test -tags sabotage -count=1 -timeout 2h -v -run 'TestSabotage|TestBlind' ./internal/redo
	@go test -tags sabotage -count=1 -timeout 2h -v -run 'TestSabotage|TestBlind' ./durable
	@go test -tags sabotage -count=1 -timeout 2h -v -run 'TestSabotage|TestBlind' ./internal/store

FUZZTIME = 60s
fuzz: go ## fuzz every decoder for FUZZTIME (half an hour)
	@mkdir -p build && FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

fuzz-short: go # those of what is stored or sent, for a second or two
	@mkdir -p build && FUZZTIME=20000x ONLY=stored scripts/fuzz.sh

BENCH = .
bench: go ## measure pauses, restores and keepers at rest (as root, ten minutes; see doc/bench.md)
	@go test -run '^$$' -bench '$(BENCH)' -benchtime 1x -count 1 -timeout 1h -v ./internal/keeper
	@go test -run '^$$' -bench '$(BENCH)' -benchtime 1x -count 1 -timeout 1h -v ./internal/store
	@go test -run '^$$' -bench '$(BENCH)' -benchtime 1x -count 1 -timeout 1h -v ./cmd/wakepoint

ROUNDS = 5
bench-durable: N = 5000000
bench-durable: go ## measure package durable against bbolt, Pebble, Badger, SQLite, raft and Redis, with N keys (as root, an hour; see bench/README.md)
	@cd bench && go build -o ../build/bench .
	@build/bench commits -rounds $(ROUNDS)
	@build/bench recovery -rounds $(ROUNDS) -keys $(N)
	@build/bench checkpoint -rounds $(ROUNDS) -keys $(N)
	@build/bench budget -keys $(N)
	@build/bench sessions -rounds $(ROUNDS)

bench-durable-short: go # the same, small, to see that it runs
	@cd bench && go build -o ../build/bench .
	@build/bench commits -rounds 1 -time 300ms
	@build/bench recovery -rounds 1 -keys 200000
	@build/bench checkpoint -rounds 1 -keys 200000
	@build/bench budget -kills 5 -keys 200000
	@build/bench sessions -kills 5 -rounds 1

vm: N = 50
vm: build ## cut the power of machines in QEMU N times, in every way, from SEED on (half an hour; see doc/hacking.md)
	@mkdir -p build && go test -c -o build/vm.test ./test/vm
	@cd test/vm && WAKEPOINT_BIN=$(CURDIR)/bin/wakepoint ../../build/vm.test -test.timeout 24h -test.v -vm.n $(N) -vm.seed $(SEED)

vm-kernels: go ## the tests on Debian's kernels 6.12 and 6.1, in QEMU (half an hour; see doc/hacking.md)
	@scripts/vm-kernels.sh

vm-systemd: dist ## the package on Debian with systemd, in QEMU: reboots, power cuts, upgrades (as root, a quarter of an hour; see doc/hacking.md)
	@scripts/vm-systemd.sh

house: go ## check the rules of the house alone (a second)
	go test -count=1 .

fmt: go ## format the source
	gofmt -w .

fmt-check: go
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted, run make fmt:" $$unformatted >&2; exit 1; fi

tidy-check: go
	@go mod tidy -diff >/dev/null || { echo "go.mod is not what the source needs, run go mod tidy" >&2; exit 1; }
	@cd bench && go mod tidy -diff >/dev/null || { echo "bench/go.mod is not what the source needs, run go mod tidy there" >&2; exit 1; }

vet: go
	go vet ./...
	cd bench && go vet ./...

lint: go ## staticcheck
	go run $(STATICCHECK) ./...
	cd bench && go run $(STATICCHECK) ./...

cross: go ## build for arm64, and for other systems what should build there
	GOARCH=arm64 go build ./...
	@scripts/cross.sh

ci: export RACE := 1
ci: fmt-check tidy-check vet lint cross fuzz-short test ## exactly what CI runs: format, go.mod, vet, staticcheck, arm64, a little fuzzing, every test once

dist: build ## dist/: a reproducible tar.gz and a .deb
	@scripts/dist.sh

clean: ## remove what was built
	rm -rf bin dist build
