# Everything that this repository does. `make help` lists it.

PYTHON ?= python3
VENV   ?= .venv
COLAB  ?= .venv-colab
PORT   ?= 8000

BIN    := $(VENV)/bin
# The lowest supported versions have wheels up to Python 3.12, which is Colab's.
# Asked to run, since a version manager names versions that it does not have.
COLAB_PYTHON ?= $(firstword $(foreach p,python3.12 python3.11,$(shell $(p) -c 'import sys; print(sys.executable)' 2>/dev/null)) $(PYTHON))
# The environment is rebuilt exactly when what it is made from changes.
STAMP  := $(VENV)/.installed-$(firstword $(shell cat requirements.txt pyproject.toml | cksum))
CODE   := lib tests tools benchmarks notebooks course

# A copy of the tree tests its own library, whatever the environment was installed from.
export PYTHONPATH := $(CURDIR)/lib
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.DEFAULT_GOAL := help
.PHONY: help setup book test check gates axe colab pdf links serve lab ledger bench exercises trial assignment grade rehome clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create the environment (the other targets do it by themselves)

$(STAMP):
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: $(PYTHON) is older than 3.11 or lacks venv." >&2; \
	  echo "      Install it (Debian: apt install python3-venv) or name another: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.installed-*
	@touch $@

book: $(STAMP) ## Execute the notebooks and render the book; warnings are errors
	@$(BIN)/python tools/build.py

test: $(STAMP) ## Test the library, the notebooks and the built site
	$(BIN)/python -m pytest -n 2 --dist loadfile --doctest-modules --nbval-lax \
	  --ignore=tests/site --ignore=tests/gates --ignore=tests/colab --ignore=tests/course lib tests notebooks
	$(BIN)/python -m pytest -n 2 tests/course
	@$(BIN)/python tools/build.py
	$(BIN)/python -m pytest tests/site -n 2

check: $(STAMP) ## Check format, style, floors, notebooks and types
	$(BIN)/ruff format --check $(wildcard $(CODE))
	$(BIN)/ruff check $(wildcard $(CODE))
	$(BIN)/lint-imports
	$(BIN)/python tools/check_notebooks.py
	$(BIN)/mypy

gates: $(STAMP) ## Seed one fault of each kind in a copy and see it caught
	$(BIN)/python tests/gates/run.py

axe: book ## Look for barriers on every page, light and dark (`make test`: colours on four)
	EVERY_PAGE=1 $(BIN)/python -m pytest tests/site/test_browser.py -k axe -n 2

COLAB_STAMP := $(COLAB)/.installed-$(firstword $(shell cksum tests/colab/requirements.txt))

$(COLAB_STAMP):
	test -x $(COLAB)/bin/python || $(COLAB_PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install --quiet -r tests/colab/requirements.txt
	@rm -f $(COLAB)/.installed-*
	@touch $@

colab: book $(COLAB_STAMP) ## Run every reader copy in a simulated Colab, lowest versions (CHAPTERS=01_)
	COLAB_PYTHON=$(CURDIR)/$(COLAB)/bin/python \
	  $(BIN)/python -m pytest tests/colab --durations=0 $(if $(CHAPTERS),-k "$(CHAPTERS)")

pdf: book ## Print the book as one PDF (needs Chromium)
	@$(BIN)/python tools/pdf.py

links: book ## Ask every address that the text links to whether it answers (needs the network)
	$(BIN)/jupyter-book build . --builder linkcheck

serve: book ## Serve the built book at http://localhost:8000 (PORT=...)
	@echo "The book is at http://localhost:$(PORT)/ (Ctrl-C stops)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

lab: $(STAMP) ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

ledger: book ## Run every chapter and print the ledger of claims
	@$(BIN)/python tools/build.py --ledger

bench: $(STAMP) ## Compare with peers: time and agreement
	@$(BIN)/python benchmarks/run.py

# Never on a machine that holds anything else: ISOLATION=process, where no sandbox can be built.
COURSE := PYTHONPATH="$(CURDIR)/lib:$(CURDIR)/tools" $(BIN)/python -m course

exercises: $(STAMP) ## Make the students' copies from the masters in course/
	@$(COURSE) exercises

trial: $(STAMP) ## Are exercises of your own fit to be assigned? (MASTER=03_exam.ipynb, SEEDS=20)
	@test -n "$(MASTER)" || { echo "make: which master? make trial MASTER=03_exam.ipynb" >&2; exit 2; }
	@$(COURSE) trial "$(MASTER)" $(if $(SEEDS),--seeds $(SEEDS)) $(if $(ISOLATION),--isolation $(ISOLATION))

assignment: $(STAMP) ## A folder to hand out, one to grade with (CHAPTER=3 or MASTER=file, OUT=folder)
	@test -n "$(CHAPTER)$(MASTER)" || { echo "make: which chapter? make assignment CHAPTER=3" >&2; exit 2; }
	@$(COURSE) assignment $(if $(MASTER),--master "$(MASTER)","$(CHAPTER)") $(if $(OUT),--out "$(OUT)")

grade: $(STAMP) ## Grade a folder of notebooks (SUBMISSIONS=folder, CHAPTER=3 or KEY=folder)
	@$(COURSE) grade $(if $(AGAIN),--again) $(if $(CHAPTER),--chapter $(CHAPTER)) $(if $(KEY),--key "$(KEY)") \
	  $(if $(OUT),--out "$(OUT)") $(if $(ISOLATION),--isolation $(ISOLATION)) -- "$(SUBMISSIONS)"

rehome: ## Change the repository's address everywhere (URL=https://github.com/OWNER/NAME)
	@$(PYTHON) tools/rehome.py "$(URL)"

clean: ## Remove what was built, the environment excepted
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find lib tests tools benchmarks notebooks book -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} + 2>/dev/null || true
