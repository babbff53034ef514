.PHONY: help build test demo bench lint rust
.DEFAULT_GOAL := help

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

build: rust ## Build the program: target/release/bkp
	cargo build --release --locked

test: ## Install what the tests need and run them
	scripts/test

demo: rust ## Build bkp, then back up, damage, restore and compare real data
	scripts/require-commands age zstd tar sqlite3 python3
	cargo build --locked
	BKP=$${CARGO_TARGET_DIR:-target}/debug/bkp scripts/demo

bench: ## Compare with restic, kopia, borg and plain tools (benches/run --help); then long histories and many sources
	benches/run
	cargo bench --locked --bench scale

lint: rust ## Format, clippy, and the licences and sources of dependencies
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	scripts/deny

rust:
	@scripts/require-rust
