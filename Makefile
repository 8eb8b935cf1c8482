# Two commands matter: `make run` starts the server with its page, `make test` passes every test. Both set up what is
# missing on a Debian machine first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

CACHE := .cache
export PATH := $(CURDIR)/$(CACHE)/nodejs/node_modules/.bin:$(HOME)/.cargo/bin:$(PATH)
CARGO ?= cargo

# C compiler and cmake: aws-lc (SRTP, TLS). curl: the Rust toolchain where there is none. nodejs, npm: the page.
# protobuf-compiler and libprotobuf-dev: the messages of etcd's client.
PACKAGES := build-essential cmake curl git ca-certificates pkg-config protobuf-compiler libprotobuf-dev
# Chromium: browser tests. iproute2: cutting one page's network. python3-venv: LiveKit's Python SDK. zookeeper (with Java) and
# etcd-server: the cluster's stores; tests start their own on free ports, whatever service Debian starts of etcd.
TEST_PACKAGES := chromium iproute2 python3 python3-venv zookeeper default-jre-headless etcd-server
# clang, libbpf-dev, bpftool: the sink of the measurements. nftables: what a firewall costs. python3-pip: building
# mediasoup.
BENCH_PACKAGES := clang libbpf-dev bpftool iproute2 nftables python3 python3-pip janus

.PHONY: run release test soak bench bench-peers web build setup test-setup bench-setup fuzz fmt lint clean

## Starts everything: page, API and media on this machine.
run: release
	target/release/sluice up

release: setup web
	$(CARGO) build --release --locked --bin sluice

## Passes every test.
test: test-setup web
	tests/run

## The counted loops of the issues, in full. Hours.
soak: test-setup web
	tests/run soak

## What a packet costs, in minutes: micro-benches, then the server beside the substrate's limit. The second part needs root.
bench: bench-setup
	$(CARGO) bench --locked -p sluice-benches --bench parse --bench srtp --bench forward -- --quick
	benches/rig/measure --rounds $${ROUNDS:-2}

## The same beside mediasoup, and beside LiveKit where LIVEKIT names its server. An hour; needs root.
bench-peers: bench-setup
	cd benches/peers/mediasoup && $(CARGO) build --release --locked || echo "mediasoup does not build here" >&2
	benches/peers/run --rounds $${ROUNDS:-6}

build: setup web
	$(CARGO) build --locked --bin sluice

web: web/dist/index.html

web/dist/index.html: web/package-lock.json web/index.html web/vite.config.ts $(shell find web/src web/public -type f 2>/dev/null)
	cd web && npm ci --no-audit --no-fund && npm run build
	touch $@

## Fuzzes every parser for FUZZ_SECONDS each; needs a nightly toolchain and cargo-fuzz.
fuzz:
	for target in $$(cd fuzz && $(CARGO) fuzz list); do \
		(cd fuzz && $(CARGO) +nightly fuzz run $$target seeds/$$target -- -max_total_time=$${FUZZ_SECONDS:-60}); done

fmt:
	$(CARGO) fmt --all

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

clean:
	rm -rf target web/dist web/node_modules tests/browser/node_modules $(CACHE) artefacts

setup: $(CACHE)/packages $(CACHE)/rust $(CACHE)/node

test-setup: setup $(CACHE)/test-packages $(CACHE)/python tests/browser/node_modules/.package-lock.json

bench-setup: release $(CACHE)/bench-packages
	$(CARGO) build --release --locked --bin limit --bin janus

$(CACHE)/packages: Makefile
	mkdir -p $(CACHE)
	tools/install $(PACKAGES)
	touch $@

$(CACHE)/test-packages: Makefile
	mkdir -p $(CACHE)
	tools/install $(TEST_PACKAGES)
	touch $@

$(CACHE)/bench-packages: Makefile
	mkdir -p $(CACHE)
	tools/install $(BENCH_PACKAGES)
	touch $@

# Debian's own Rust is older than this code needs; `tools/rust` takes what is there if it is new enough, else rustup.
$(CACHE)/rust: tools/rust | $(CACHE)/packages
	tools/rust
	touch $@

# Debian 12's Node is older than the page's build needs: then npm's own `node` package brings a newer one.
$(CACHE)/node: tools/node | $(CACHE)/packages
	tools/node $(CACHE)/nodejs
	touch $@

$(CACHE)/python: tests/python/requirements.txt | $(CACHE)/test-packages
	python3 -m venv $(CACHE)/venv
	$(CACHE)/venv/bin/pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
	touch $@

tests/browser/node_modules/.package-lock.json: tests/browser/package-lock.json | $(CACHE)/node
	cd tests/browser && npm ci --no-audit --no-fund
	touch $@
