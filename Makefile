# make demo         a spoken answer within minutes: asks the bundled recordings, writes demo/*.wav
# make mini-demo    the same questions to a model on real bases, which it fetches first (400 MB)
# make test         lint, types and tests
# make nano         train the embedded default anew, from its data on (hours; resumable)
# make mini         train the mini anew, on published bases (hours; resumable)
# make lint         ruff and pyright alone
# make wheel-test   build the wheel, install it into an empty environment, use it there
# make test-deepspeed  every stage under DeepSpeed ZeRO-2 and ZeRO-3, on CPUs
# make test-cluster  replicas that Ray Serve has placed: killed, drained, gone on with
# make test-clients  clients of others talk to a served nano: pipecat, livekit, openai-agents
# make fuzz         a million wrong messages to a server on this machine (long)
# make connects     ten thousand clients come and go; its memory may grow by 2 %
# make interruptions   ten thousand answers are interrupted; nothing of them may follow
# make chart-test   the Helm chart by helm itself, which it fetches where there is none
# make test-oldest  the tests with the lowest versions that pyproject.toml takes
# make test-newest  the tests with the newest ones
# make docs         the documentation as a site in build/site; a warning is an error
# make constraints  write constraints.txt anew, from what test-newest has just passed with
# make clean        remove the virtual environments, caches and what demo wrote
#
# Every target makes its own virtual environment, with the versions of constraints.txt where it
# does not say otherwise (docs/releasing.md). PIP_ARGS goes to `pip install`: a PC without a
# GPU saves gigabytes with PIP_ARGS="--extra-index-url URL", URL being the index of torch's CPU
# wheels that PyTorch's "Get started" page names.

PIP_ARGS ?=
VENV ?= .venv
OLDEST := .venv-oldest
NEWEST := .venv-newest
DEEPSPEED := .venv-deepspeed
CLUSTER := .venv-cluster
CLIENTS := .venv-clients
NANO_DIR ?= runs/nano
MINI_DIR ?= runs/mini
MINI_ARGS ?=
TEST_ARGS ?=

BIN := $(VENV)/bin
# Twice quiet: errors alone. pip's warnings are about its own configuration, nothing to act on.
PIP_INSTALL := -m pip install --disable-pip-version-check -qq
PYTEST := -m pytest -n 2 $(TEST_ARGS)
# test_packaging compares constraints.txt with the ranges, whatever is installed: with it, a range
# that has just been raised could never be tested.
ENDS_PYTEST := $(PYTEST) --ignore tests/test_packaging.py
# A browser that talks to the page of `omni-serve run`; without one its tests are skipped.
BROWSER_PACKAGES := chromium
# Speech synthesis for data_tools: the nano's data, and the tests of how it is made.
SPEECH_PACKAGES := flite espeak-ng festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts

.PHONY: demo mini-demo test nano mini lint docs wheel-test fuzz connects interruptions chart-test test-deepspeed \
	test-cluster test-clients test-oldest test-newest constraints clean
.DELETE_ON_ERROR:

demo: $(VENV)/.core
	$(BIN)/omni demo --output demo

mini-demo: $(VENV)/.mini
	$(BIN)/omni fetch-bases mini
	$(BIN)/omni demo --checkpoint mini --output demo/mini

test: $(VENV)/.test | speech-packages browser-packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

nano: $(VENV)/.test | speech-packages
	$(BIN)/omni-data nano --output $(NANO_DIR)/data
	$(BIN)/omni-train nano $(NANO_DIR)

mini: $(VENV)/.test | speech-packages
	$(BIN)/omni-train mini $(MINI_DIR) $(MINI_ARGS)

# The theme's farewell to its own successor is no warning about our pages.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel-test: $(VENV)/.test
	$(BIN)/python -m pytest .ci/test_wheel.py

# Tests that are captured show no progress.
fuzz: $(VENV)/.test
	$(BIN)/python -m pytest -s -k messages .ci/test_long_serving.py

connects: $(VENV)/.test
	$(BIN)/python -m pytest -s -k clients .ci/test_long_serving.py

interruptions: $(VENV)/.test
	$(BIN)/python -m pytest -s -k interrupt .ci/test_long_serving.py

chart-test: $(VENV)/.test
	command -v helm >/dev/null || $(BIN)/python .ci/helm.py build/bin
	PATH="$(abspath build/bin):$$PATH" $(BIN)/python -m pytest tests/test_deploy.py

test-deepspeed: $(DEEPSPEED)/.installed
	OMP_NUM_THREADS=1 $(DEEPSPEED)/bin/python -m pytest $(TEST_ARGS) .ci/test_deepspeed.py

test-cluster: $(CLUSTER)/.installed
	OMP_NUM_THREADS=1 $(CLUSTER)/bin/python -m pytest $(TEST_ARGS) tests/serve/router

# The clients alone are there: some want other versions of what the server runs with.
test-clients: $(VENV)/.test $(CLIENTS)/.installed
	OMNI_SERVE="$(abspath $(BIN))/omni-serve" $(CLIENTS)/bin/python -m pytest $(TEST_ARGS) .ci/clients

test-oldest: $(OLDEST)/.installed | speech-packages browser-packages
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python $(ENDS_PYTEST)

# Made anew each time: what is newest changes without any file of ours.
test-newest: | speech-packages browser-packages
	rm -rf $(NEWEST)
	@$(MAKE) --no-print-directory $(NEWEST)/.installed
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python $(ENDS_PYTEST)

# Without the build's tag (torch's +cpu, +cu130): other indexes have other builds of a version.
constraints: test-newest
	@$(NEWEST)/bin/python -m pip freeze --all --exclude-editable --exclude pip >$(NEWEST)/frozen.txt
	@{ echo "# Versions that passed all tests together: core and the extras that [test] installs."; \
	    echo "# Written by \`make constraints\` (docs/releasing.md), not by hand:" \
	        "$$($(NEWEST)/bin/python --version), $$(uname -sm)."; \
	    sed 's/+[^ ]*$$//' $(NEWEST)/frozen.txt; } >$(NEWEST)/constraints.txt
	@mv $(NEWEST)/constraints.txt constraints.txt

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) $(DEEPSPEED) $(CLUSTER) $(CLIENTS) demo build dist .pytest_cache .ruff_cache .hypothesis

# Stamps: an environment is up to date when its stamp is younger than the files that it depends on.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing omni into $(VENV) (a few minutes, about 1.2 GB) ..."
	$(BIN)/python $(PIP_INSTALL) $(PIP_ARGS) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing omni and its test tools into $(VENV) (a few minutes, about 2 GB) ..."
	$(BIN)/python $(PIP_INSTALL) $(PIP_ARGS) --constraint constraints.txt --editable ".[test]"
	@touch $@ $(VENV)/.core

$(VENV)/.mini: $(VENV)/.core
	$(BIN)/python $(PIP_INSTALL) $(PIP_ARGS) --constraint constraints.txt --editable ".[mini]"
	@touch $@

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python $(PIP_INSTALL) $(PIP_ARGS) --constraint constraints.txt --editable ".[docs]"
	@touch $@

$(DEEPSPEED)/.installed: pyproject.toml constraints.txt | $(DEEPSPEED)/bin/python
	@echo "Installing omni and DeepSpeed into $(DEEPSPEED) (a few minutes, about 2 GB) ..."
	$(DEEPSPEED)/bin/python $(PIP_INSTALL) $(PIP_ARGS) \
	    --constraint constraints.txt --editable ".[test,deepspeed]"
	@touch $@

$(CLUSTER)/.installed: pyproject.toml constraints.txt | $(CLUSTER)/bin/python
	@echo "Installing omni and Ray Serve into $(CLUSTER) (a few minutes, about 2 GB) ..."
	$(CLUSTER)/bin/python $(PIP_INSTALL) $(PIP_ARGS) \
	    --constraint constraints.txt --editable ".[test,cluster]"
	@touch $@

$(CLIENTS)/.installed: .ci/clients.txt | $(CLIENTS)/bin/python
	@echo "Installing clients of others into $(CLIENTS) (a minute, about 0.8 GB) ..."
	$(CLIENTS)/bin/python $(PIP_INSTALL) $(PIP_ARGS) --upgrade --requirement .ci/clients.txt
	@touch $@

# uv finds the lowest versions that go together; pip, which keeps to its own settings, takes them.
$(OLDEST)/.installed: pyproject.toml
	rm -rf $(OLDEST)
	@$(MAKE) --no-print-directory $(OLDEST)/bin/python
	@echo "Installing omni and its test tools into $(OLDEST) (minutes; 6 GB with CUDA) ..."
	$(OLDEST)/bin/python $(PIP_INSTALL) uv
	$(OLDEST)/bin/uv pip compile --quiet --resolution lowest-direct --extra test \
	    --python $(OLDEST)/bin/python pyproject.toml --output-file $(OLDEST)/lowest.txt
	$(OLDEST)/bin/python $(PIP_INSTALL) $(PIP_ARGS) \
	    --constraint $(OLDEST)/lowest.txt --editable ".[test]"
	@touch $@

$(NEWEST)/.installed: | $(NEWEST)/bin/python
	@echo "Installing omni and its test tools into $(NEWEST) (a few minutes, about 2 GB) ..."
	$(NEWEST)/bin/python $(PIP_INSTALL) $(PIP_ARGS) --editable ".[test]"
	@touch $@

# The first Python that is new enough and works; a name on PATH may be only a shim.
%/bin/python:
	@if command -v dpkg >/dev/null && ! command -v python3 >/dev/null; then \
	    $(call install_packages,python3-venv); fi
	@for python in python3.11 python3.12 python3.13 python3; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        if ! $$python -c 'import ensurepip' 2>/dev/null; then \
	            $(call install_packages,python3-venv); fi; \
	        echo "Making $* with $$($$python --version)"; \
	        exec $$python -m venv $*; \
	    fi; \
	done; \
	echo "error: no Python 3.11 or later on PATH; install one (Debian 12: python3 python3-venv)" >&2; \
	exit 1

.PHONY: speech-packages browser-packages
speech-packages:
	@$(call install_packages,$(SPEECH_PACKAGES))

browser-packages:
	@( $(call install_packages,$(BROWSER_PACKAGES)) ) \
	    || echo "The page's tests in a browser are skipped." >&2

# install_packages PACKAGE...: the Debian packages that are missing; root only. A shell command.
# The lists are updated first: on a fresh machine they are stale or absent.
define install_packages
missing=; for package in $(1); do \
    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' \
        || missing="$$missing $$package"; \
done; \
if [ -n "$$missing" ]; then \
    if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
        echo "error: system packages are missing:$$missing; as root, run:" \
            "apt-get update && apt-get install$$missing" >&2; \
        exit 1; \
    fi; \
    echo "Installing system packages:$$missing"; \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $$missing >/dev/null || exit 1; \
fi
endef
