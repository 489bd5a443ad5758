# Each command installs what is missing, on Debian and Ubuntu, as root or with sudo; elsewhere it says what to install.
# PG picks the major version of PostgreSQL, PG_CONFIG an installation.

export PG PG_CONFIG DESTDIR ARGS BENCH ROOM SUITES SETTINGS

.DEFAULT_GOAL := help
.PHONY: help all setup install package test-package test test-examples accept demo bench figures instructions soak fuzz mutants fmt lint ci clean-clusters

help:
	@echo 'make install          build the release and install it (PG_CONFIG=… or PG=…; else PostgreSQL 15; DESTDIR=…)'
	@echo 'make demo             tests/demo.sql in a throw-away cluster'
	@echo 'make package          a Debian package of it, target/package/postgresql-15-sequin_….deb (PG=…)'
	@echo 'make test-package     the package in a fresh Debian, with its PostgreSQL, as root'
	@echo 'make setup            install PostgreSQL, its headers, libclang and cargo-pgrx, where missing'
	@echo 'make test             all tests (PG=18: on that version; ARGS=name: those; SUITES=unit, regress, client)'
	@echo 'make test-examples    each program of examples/ with its broker, killed in the middle (ARGS=…: those)'
	@echo 'make accept           run tests/pg_regress and take what comes out as expected'
	@echo 'make instructions     the instructions of fixed batches, against the committed counts (ACCEPT=1 takes them)'
	@echo 'make bench            the benchmark, in a throw-away cluster (ARGS=…); writes target/bench.json.'
	@echo '                      BENCH=failures: what messages that fail cost; BENCH=waiting: what letters that wait cost;'
	@echo '                      BENCH=sessions: what several sessions bring; BENCH=works: other work than one table;'
	@echo '                      BENCH=growth: what a full database costs; BENCH=all: all of them, in about two hours'
	@echo 'make figures          the figures of README.md and docs/, and the chart, from target/bench.json'
	@echo 'make soak             deliver while servers are killed, and random sources, for SECONDS=600 each'
	@echo 'make fuzz             mutated input for the parsers, SECONDS=20 for each'
	@echo 'make mutants          changes of the pure rooms that no unit test notices (ROOM=merge: of that one)'
	@echo 'make fmt, make lint   format; check format and lints'
	@echo 'make ci               all that must hold: .ci/run'
	@echo 'make clean-clusters   stop and remove throw-away clusters and servers'

setup install package test-package test test-examples demo bench figures instructions mutants lint:
	@.ci/$@

# what PGXN's client runs before `make install`
all:
	@BUILD_ONLY=1 .ci/install

accept:
	@ACCEPT=1 SUITES=regress .ci/test

soak:
	@SOAK_SECONDS=$(or $(SECONDS),600) .ci/soak

fuzz:
	@FUZZ_SECONDS=$(or $(SECONDS),20) .ci/fuzz

ci:
	@.ci/run

fmt:
	@cargo fmt --all

clean-clusters:
	@.ci/clean-clusters
