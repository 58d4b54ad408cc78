# make demo     a spoken answer within minutes: asks the bundled recordings, writes demo/*.wav
# make test     lint, types and tests
# make nano     train the embedded default anew, from its data on (hours; resumable)
# make lint     ruff and pyright alone
# make clean    remove the virtual environment, caches and what demo wrote
#
# Every target makes its own virtual environment. PIP_ARGS goes to `pip install`: a PC without a
# GPU saves gigabytes with PIP_ARGS="--extra-index-url URL", URL being the index of torch's CPU
# wheels that PyTorch's "Get started" page names.

PIP_ARGS ?=
VENV ?= .venv
NANO_DIR ?= runs/nano
TEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
# Speech synthesis for data_tools: the nano's data, and the tests of how it is made.
SPEECH_PACKAGES := flite espeak-ng festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts

.PHONY: demo test nano lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.core
	$(BIN)/omni demo --out demo

test: $(VENV)/.test | speech-packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(TEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

nano: $(VENV)/.test | speech-packages
	$(BIN)/omni-data nano $(NANO_DIR)/data
	$(BIN)/omni-train nano $(NANO_DIR)

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .hypothesis

# Stamps: an environment is up to date when its stamp is younger than pyproject.toml.
$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo "Installing omni into $(VENV) (a few minutes, about 1.2 GB) ..."
	$(PIP) $(PIP_ARGS) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "Installing omni and its test tools into $(VENV) (a few minutes, about 2 GB) ..."
	$(PIP) $(PIP_ARGS) --editable ".[test]"
	@touch $@ $(VENV)/.core

# The first Python that is new enough and works; a name on PATH may be only a shim.
$(BIN)/python:
	@if command -v dpkg >/dev/null && ! command -v python3 >/dev/null; then \
	    $(call install_packages,python3-venv); fi
	@for python in python3.11 python3.12 python3.13 python3; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        if ! $$python -c 'import ensurepip' 2>/dev/null; then \
	            $(call install_packages,python3-venv); fi; \
	        echo "Making $(VENV) with $$($$python --version)"; \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo "error: no Python 3.11 or later on PATH; install one (Debian 12: python3 python3-venv)" >&2; \
	exit 1

.PHONY: speech-packages
speech-packages:
	@$(call install_packages,$(SPEECH_PACKAGES))

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
