# The whole workflow. `make` alone prints help.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python

help: ## print this help
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

.venv/installed: requirements/dev.txt
	@devtools/install

requirements: ## pin again what pyproject.toml asks for (versions and hashes, no addresses)
	@devtools/pin
