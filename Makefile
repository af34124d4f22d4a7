# What CI runs is what we run: `make test`.

.DEFAULT_GOAL := help
.PHONY: help demo build cross deb reproducible test test-systemd bench fleet-sim soak fuzz tools format lint docs deny unit emulated packages clean

# Each of a list stands on those before it.
.NOTPARALLEL:

CARGO ?= cargo
# This machine, as Debian calls it.
HOST = $(shell dpkg --print-architecture)
# How long `make demo` runs, in seconds; without it, until it is interrupted.
SECONDS_ ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## everything embedded, nothing to install; SECONDS_=20 ends by itself and checks every reading
	$(CARGO) run --locked --release -- demo $(if $(SECONDS_),--seconds $(SECONDS_))

build: ## the release binary, target/release/headwater
	$(CARGO) build --locked --release

cross: ## the release binaries of boards, target/cross/ARCH/headwater; ARCH="arm64 armv6" for some; installs what that needs
	@CARGO="$(CARGO)" sh cross/build.sh $(ARCH)

deb: ## the Debian package for ARCH=amd64, arm64 or armhf, and its checksum, in target/deb
	@CARGO="$(CARGO)" sh packaging/deb.sh $(ARCH)

reproducible: ## that package twice, from two folders with nothing in common: the same bytes, or an error; ARCH=arm64, or others
	@sh packaging/reproducible.sh $(ARCH)

test: tools format lint docs deny ## everything that must hold: format, lints, docs, licences, tests, boards, the packages; installs what the tests need
	@CARGO="$(CARGO)" sh cross/beside.sh make unit
	@$(MAKE) emulated packages test-systemd

test-systemd: ## the package under a booted systemd: installed, killed, upgraded, removed; says so where none can be booted
	@CARGO="$(CARGO)" sh tests/booted/run.sh

bench: ## the figures of the README, of the agent as the package has it; ONLY="path wear card drain deep scenario memory peers agents" for some of them; FIGURES_BACKLOG_MIB=10240 for what a week leaves
	@CARGO="$(CARGO)" sh cross/build.sh $(HOST)
	FIGURES_AGENT=$(CURDIR)/target/cross/$(HOST)/headwater $(CARGO) bench --locked --bench figures $(if $(ONLY),-- $(ONLY))

fleet-sim: ## fleets of gateways that come back at once, in simulated time: the README's table, and target/fleet-sim.svg
	$(CARGO) test --locked --config 'profile.dev.package.headwater.opt-level=3' --test fleet_simulation -- --ignored --nocapture --test-threads=1

fuzz: ## libFuzzer on every decoder; FUZZ_SECONDS=30 for each
	@CARGO="$(CARGO)" FUZZ_SECONDS="$(or $(FUZZ_SECONDS),30)" sh fuzz/run.sh

soak: tools ## faults at random for SOAK_MINUTES=10, a backlog of 10 GB, and one table of what became of every reading; SOAK_ONLY="damage crash" for parts of it
	$(CARGO) bench --locked --no-run --bench soak --bench figures
	$(CARGO) test --locked --no-run --lib
	$(CARGO) bench --locked --bench soak

tools: ## installs the parts that the tests run against
	@sh tests/setup.sh

format: ## checks the format
	$(CARGO) fmt --check

lint: ## lints as errors, with and without the demo
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings

docs: ## the documentation of the code, private items too; a broken link is an error
	RUSTDOCFLAGS="-Dwarnings -Arustdoc::private_intra_doc_links" $(CARGO) doc --locked --no-deps --document-private-items

deny: tools ## checks licences, sources, duplicates and known faults of all dependencies
	@sh tests/deny.sh

unit: ## the tests alone
	$(CARGO) test --locked --no-fail-fast

emulated: tools ## builds for boards, and runs the tests of the main job with the binaries on emulated processors; ARCH=arm64, or others
	@CARGO="$(CARGO)" sh cross/test.sh $(ARCH)

packages: ## the packages for boards, of the very programs that passed under make emulated, and what lintian says of them
	@CARGO="$(CARGO)" sh packaging/boards.sh

clean: ## removes all that was built or installed here
	$(CARGO) clean
	rm -rf tests/emulator/node_modules
