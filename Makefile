# make demo | make fast | make test | make lint | make help. Each sets up its own environment in .venv when there is none.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Threads that wait for work go to sleep soon: as fast as the default on an idle machine, several times faster on a busy one.
export GOMP_SPINCOUNT ?= 10000

OLDEST := torch==2.9.0 torchvision==0.24.0 transformers==5.8.0 accelerate==1.10.0 qwen-vl-utils==0.0.14

.PHONY: demo test fast oldest lint style spelling types chromium help clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/'

demo: $(INSTALLED)  ## train a draft for the demo target and score it (two CPU cores, minutes)
	$(BIN)/vlm-eagle demo

test: $(INSTALLED)  ## run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --hypothesis-profile=ci

fast: $(INSTALLED)  ## run the tests that are not slow, open no browser and start no processes (two minutes on two cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile --hypothesis-profile=ci -m "not slow and not browser and not multi_process"

oldest:  ## run all tests with the oldest versions that are promised, in .venv-oldest
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' $(OLDEST)
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile --hypothesis-profile=ci

lint: style spelling types  ## check style, spelling and types

style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/pyright --pythonpath $(BIN)/python

spelling: $(INSTALLED)
	$(BIN)/codespell

chromium:  ## install the headless Chromium that the report's tests open it in (Debian, as root)
	command -v chromium-headless-shell || command -v chromium || command -v google-chrome || \
		(apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium-headless-shell)

clean:  ## remove outputs/, where every run writes
	rm -rf outputs

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@
