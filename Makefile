# The whole workflow. `make` alone prints help. Every target that needs Python makes .venv first, once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install run cluster demo test test-kubernetes test-matrix lint bench mutants clean requirements checksums supabase image sbom e2e chart-docs
PY := .venv/bin/python
POSTGRES ?= 18
WORKERS ?= 2
ARGS ?=

help: ## print this help
	@awk -F':.*## ' '/^[a-z][a-z0-9-]*:.*## /{printf "  make %-16s %s\n", $$1, $$2}' Makefile

install:
	@devtools/install

run: install ## start Postgres, a Clerk of our own, webhook service and reconciler; Ctrl-C ends all of it; FRESH=1 begins anew
	@exec $(PY) -m devtools.run $(if $(filter 1,$(FRESH)),--fresh)

cluster: install ## a Kubernetes to try the docs' commands on: API server (Go builds it, once), pods as processes; Ctrl-C ends it
	@exec $(PY) -m devtools.kubernetes

demo: install ## the product's promises as a story, told and checked in a minute; SABOTAGE=STEP breaks a step
	@$(PY) -m devtools.demo $(if $(SABOTAGE),--sabotage $(SABOTAGE))

PYTEST = NEXUS_AUTH_TEST_POSTGRES=$(POSTGRES) $(PY) -m pytest --numprocesses $(WORKERS) --dist worksteal

test: install ## the tests on one Postgres (POSTGRES=17, ARGS="-k name"); DATABASE_URL takes another local server
	@devtools/install npm
	@$(PYTEST) -m "not kubernetes" $(ARGS)

test-kubernetes: install ## the tests on a real Kubernetes API server (Go builds it, once)
	@$(PY) -m devtools.kubernetes build
	@$(PYTEST) -m kubernetes $(ARGS)

test-matrix: install ## what may differ: on Postgres 15 and 17; as root and not; below a 0700 home; two checkouts at once
	@.ci/test-matrix

lint: install ## ruff, mypy, import contracts, shellcheck, checksums of the migrations
	@.ci/lint

bench: install ## measure: events per second, latencies, time to the visible row
	@$(PY) -m bench $(ARGS)

image: ## build the image with docker, buildah or podman (IMAGE=name:tag BASE_IMAGE=… ARCHIVE=file)
	@devtools/image

sbom: install ## list what the image is made of (build/sbom.json, CycloneDX)
	@$(PY) -m devtools.sbom build/sbom.json

e2e: install ## test the chart on the cluster of KUBECONFIG, whose context E2E_CONTEXTS must name (tests/e2e/README.md)
	@devtools/e2e $(ARGS)

mutants: install ## break one promise after the other and see a test turn red (ARGS="D R": the faults of these rows; or a name)
	@$(PY) -m devtools.mutants --workers $(WORKERS) $(ARGS)

clean: ## remove .venv and all data of this checkout
	@if [ -x $(PY) ]; then $(PY) -m devtools.postgres; fi
	@rm -rf .venv .run .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build
	@rm -rf devtools/clerk_emulator/sdk/node_modules *.egg-info

requirements: install ## pin again what pyproject.toml asks for (ARGS=--upgrade: the newest)
	@devtools/pin $(ARGS)

chart-docs: install ## write what values.yaml says into the chart's README and schema
	@$(PY) -m devtools.chart

checksums: install ## note the migrations' checksums
	@$(PY) -m devtools.checksums

supabase: install ## write the migrations for `supabase db push` into build/supabase (ARGS=FOLDER: into that one)
	@$(PY) -m devtools.supabase $(ARGS)
