# make demo | make test | make check: each sets up .venv by itself.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

# 50 kills over the demo and a small study; SEED=17 ROUNDS=1 repeats two of them.
SEED   ?= 0
ROUNDS ?= 25

.PHONY: demo test compat torture fuzz audit sbom check setup clean docs docs-pages notebook dist

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/lingraft adapt recipes/demo.yaml

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests src

# Adapted models and adapters in the last transformers 4.
FOUR := $(VENV)/transformers-4

$(FOUR)/.ready: constraints.txt
	$(PYTHON) -m venv $(FOUR)
	$(FOUR)/bin/python -m pip install -q --disable-pip-version-check $$(grep '^torch==' constraints.txt) \
	    'transformers>=4.56,<5' peft
	touch $@

compat: setup $(FOUR)/.ready
	$(BIN)/python -m pytest tests/test_compat.py

# Ten thousand files of each kind, other ones each time.
fuzz: setup
	LINGRAFT_FUZZ=10000 LINGRAFT_EXPLORE=1 RUST_BACKTRACE=0 $(BIN)/python -m pytest -n $(JOBS) tests/test_fuzz.py

# What the checked versions are known to be weak in, and what is installed here.
# The tools live in a venv of their own, since they would change the versions in this one.
TOOLS := $(VENV)/tools

$(TOOLS)/.ready:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install -q --disable-pip-version-check pip-audit cyclonedx-bom
	touch $@

audit: $(TOOLS)/.ready
	$(TOOLS)/bin/pip-audit -r constraints.txt --no-deps --disable-pip

sbom: setup $(TOOLS)/.ready
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-file dist/sbom.cdx.json

torture: setup
	$(BIN)/python -m tests.torture --rounds $(ROUNDS) --seed $(SEED)

docs: setup docs-pages
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-pages: setup
	$(BIN)/python docs/generate.py

notebook: setup
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python notebooks/run.py

# Wheel and sdist, the wheel installed into a bare environment and asked for its help.
dist: setup
	rm -rf dist
	$(BIN)/python -m pip install -q --disable-pip-version-check build
	$(BIN)/python -m build -q
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt dist/*.whl
	cd dist && venv/bin/lingraft --help > /dev/null && venv/bin/lingraft version
	rm -rf dist/venv

clean:
	rm -rf $(VENV) runs dist site .pytest_cache .mypy_cache .ruff_cache
