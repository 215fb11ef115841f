# Everything a developer runs; `make` alone lists it. CI runs nothing that is not here.
PYTHON ?= python3
ARGS ?=
STORIES ?= tests/cluster
BIN := .venv/bin
VERSION = $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)

# Files stay whole, since they share servers; the longest come first (tests/conftest.py).
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# A virtual environment is whole when its stamp is newer than what it was made from.
DEV := .venv/.dev
LOCAL := .venv/.local
SOURCES := pyproject.toml constraints.txt

# Where images belong, and which; docker/build tells what else it reads from the environment.
REGISTRY ?= ghcr.io/bearloop
IMAGES ?= api inference mlflow trainer

images push: export REGISTRY := $(REGISTRY)

# Reads under any Python, so that a too old one gets a sentence and no traceback.
define PLATFORM
import platform, sys
def refuse(why):
    sys.exit("bearloop cannot be installed here: " + why)
if sys.version_info < (3, 11):
    refuse("Python %d.%d is too old, 3.11 or newer is needed: make PYTHON=python3.11 ..." % sys.version_info[:2])
libc, version = platform.libc_ver()
if sys.platform == "darwin" and platform.machine() != "arm64":
    refuse("there is no PyTorch for macOS on Intel: use Linux or an Apple Silicon Mac")
if sys.platform not in ("linux", "darwin"):
    refuse("%s is not supported: use Linux (on Windows: WSL 2) or an Apple Silicon Mac" % sys.platform)
if sys.platform == "linux" and (libc != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 28)):
    refuse("its C library is %s, glibc 2.28 or newer is needed: use Debian 10, Ubuntu 20.04, RHEL 8 or newer" % ((libc + " " + version).strip() or "not glibc"))
try:
    import ensurepip, venv
except ImportError:
    refuse("this Python has no venv module: install it (on Debian and Ubuntu: apt install python3-venv)")
endef
export PLATFORM

.DEFAULT_GOAL := help
.PHONY: help venv test test-long test-cluster check demo kind cluster-up docs images push format clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

venv: $(DEV) ## Create .venv with everything that developing needs

# Without KUBECONFIG: the stories of a cluster make and delete things in it, and are asked for by name.
# A thread each: tests run on all cores already, and PyTorch's threads would wait for one another.
test: $(DEV) ## Run all tests but the long stories (ten to twenty minutes on two cores)
	env -u KUBECONFIG OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m 'not long'

test-long: $(DEV) ## Run the long stories: all killed at every step; the CLI; S3
	env -u KUBECONFIG $(BIN)/python -m pytest $(PARALLEL) -m long

# What ails a cluster ails every story of it: after five, they are told no further.
test-cluster: $(DEV) ## Tell the stories of the cluster that KUBECONFIG names (minutes)
	$(BIN)/python -m pytest --maxfail=5 --durations=0 --durations-min=1 $(STORIES)

check: $(DEV) ## Check style, types and architecture (under a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_style.py tests/test_architecture.py

demo: $(LOCAL) ## Run the whole life on example images (ARGS=--exit ends it when done)
	$(BIN)/bearloop demo $(ARGS)

kind: ## Make a kind cluster, load the images, install the evaluation profile
	kind get clusters | grep -qx bearloop || kind create cluster --config charts/kind.yaml --wait 3m
	REGISTRY=localhost docker/build
	kind load docker-image --name bearloop $(foreach image,api inference mlflow trainer,localhost/bearloop-$(image):$(VERSION))
	kind get kubeconfig --name bearloop > .kind.kubeconfig
	KUBECONFIG=$(CURDIR)/.kind.kubeconfig charts/up $(ARGS)

cluster-up: ## Install the evaluation profile into the cluster that KUBECONFIG names
	charts/up $(ARGS)

docs: $(DEV) ## Write what the documentation says of the code
	$(BIN)/python -m tests.house.documents

images: ## Build the container images (REGISTRY=..., IMAGES="api trainer", BUILDER="podman build")
	docker/build $(IMAGES)

push: images ## Push them too (REGISTRY=registry.example.org/team)
	docker/build --push $(IMAGES)

format: $(DEV) ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove caches and build outputs; .venv stays
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c "$$PLATFORM"
	$(PYTHON) -m venv .venv

$(DEV): $(SOURCES) | $(BIN)/python
	$(call install,dev)
	@touch $(LOCAL) $(DEV)

$(LOCAL): $(SOURCES) | $(BIN)/python
	$(call install,local)
	@touch $(LOCAL)

# pip reads its own settings (PIP_INDEX_URL, PIP_CACHE_DIR, PIP_NO_INDEX ...) from the environment.
define install
@echo "Installing bearloop[$(1)] into .venv, from pip's cache where it can: PyTorch is about 5 GB"
@echo "on Linux (it brings CUDA), the rest about 1 GB."
$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(1)]' -c constraints.txt
endef
