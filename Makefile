# The platform's commands. `make` alone lists them. What each needs is installed first, from lock files.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Python for the virtual environment; empty: python3, else the newest of 3.13, 3.12, 3.11
PYTHON ?=
# Where that environment is
VENV ?= .venv
export PYTHON VENV
# Which Molecule scenario `molecule` runs; empty: default
SCENARIO ?=
# How many rows `plans` asks of
ROWS ?= 10000000
# Which inventory `up` and `down` act on
INVENTORY ?= inventories/local

ACTIVATE := source $(VENV)/bin/activate && source bin/become-rights
export MOLECULE_EPHEMERAL_DIRECTORY ?= $(CURDIR)/.cache/molecule

.PHONY: help setup up down status test test-all test-hosts molecule lint unit bench bench-sink plans optimal lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what the commands need: .venv, node packages, Debian packages
	@bin/setup

up: setup ## create the local host, deploy everything to it, show what runs
	@$(ACTIVATE)
	ansible-playbook -i $(INVENTORY) playbooks/hosts/create.yml
	ansible-playbook -i $(INVENTORY) site.yml
	ansible-playbook -i $(INVENTORY) playbooks/operations/status.yml

status: setup ## show what runs, blocks seen and the best opportunities
	@$(ACTIVATE)
	ansible-playbook -i $(INVENTORY) playbooks/operations/status.yml

down: setup ## destroy the local host and all that was made for it
	@$(ACTIVATE)
	ansible-playbook -i $(INVENTORY) playbooks/hosts/destroy.yml

test: ## lint, unit tests, hosts that are killed half-way, the whole platform on a fresh host
	@bin/steps setup lint unit test-hosts molecule

test-all: ## test on the oldest and on the newest Python here (3.11 to 3.13), then the longer scenarios
	@bin/test-all

test-hosts: setup ## kill host creation half-way, recover, and look for anything left behind
	@$(ACTIVATE)
	bin/as-root env "PATH=$$PATH" PYTHONDONTWRITEBYTECODE=1 pytest -p no:cacheprovider tests/hosts

molecule: setup ## the Molecule scenario SCENARIO (default, host, mesh, data, data_ha, redis)
	@$(ACTIVATE)
	molecule test $(if $(SCENARIO),--scenario-name $(SCENARIO))

lint: setup ## ansible-lint, yamllint, ruff, mypy, shellcheck
	@$(ACTIVATE)
	bin/lint

unit: setup ## tests of the engine and of the collection
	@$(ACTIVATE)
	pytest

bench: setup ## the benchmark report: every figure beside its yardstick (C, degenbot), with plots
	@$(ACTIVATE)
	cd engine/benchmarks && PYTHONDONTWRITEBYTECODE=1 python -m report

bench-sink: setup ## rows a second into PostgreSQL: the engine's sink beside plain COPY and INSERT
	@$(ACTIVATE)
	cd engine/benchmarks && PYTHONPATH=../tests PYTHONDONTWRITEBYTECODE=1 python -m sink

plans: setup ## the guide's queries on ROWS rows (ten million): their plans, and times with and without indexes
	@$(ACTIVATE)
	MEV_PLAN_ROWS=$(ROWS) PYTHONDONTWRITEBYTECODE=1 pytest -p no:cacheprovider -s engine/tests/live/test_schema.py

optimal: setup ## 10,100 random cycles solved with degenbot 0.5 and 0.6: none may earn more than we do
	@$(ACTIVATE)
	cd engine/benchmarks
	python -m optimal --rounds 1 --kind v2 --count 2000
	python -m optimal --rounds 1 --kind v2-v3 --count 1200
	python -m optimal --rounds 1 --kind v2-v3-v4 --count 250

lock: setup ## compile the lock files anew
	@$(ACTIVATE)
	bin/lock

clean: ## delete the cached Debian trees and what `setup` installed
	@for host in /var/lib/mev-platform/hosts/*/; do
	  [ ! -e "$$host" ] || { echo "$$host is a host that needs them: destroy it first (make down)" >&2; exit 1; }
	done
	rm -rf .cache engine/devchain/node_modules engine/tests/contracts/node_modules .venv
	bin/as-root rm -rf /var/cache/mev-platform
