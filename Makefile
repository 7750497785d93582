# The front door. `make` lists what it can do.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
STAMP := $(VENV)/.installed
# CPU build of torch by default; `make install CUDA=1` takes the CUDA build on Linux.
CUDA ?=
SPEAKER ?=
AUDIO ?=
SOURCE ?=
TARGET ?=
ENROL ?=
MODEL ?=
RUN ?=
CONFIG ?= configs/guard.yaml
SUITE ?= standard
PAIRS ?=
FAIL_ON ?= error
ARGS ?=
# What threads and forks share is tested in a process of its own.
ALONE := tests/embedders/test_sharing.py

.DEFAULT_GOAL := help
.PHONY: help install demo report test check docs enroll verify attack train results bench promote lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP) ## one locked environment in .venv, everything in it

$(STAMP): requirements.lock requirements-torch.lock pyproject.toml
	$(PYTHON) tools/install.py $(VENV) $(if $(CUDA),--cuda)
	-@$(BIN)/speakerguard models --fetch > /dev/null
	-@$(BIN)/python tests/support/real_speech.py
	@touch $@

demo: $(STAMP) ## enrol speakers from real audio, verify true and false claims, save what happened
	$(BIN)/python -m speakerguard.demo
	$(BIN)/python -m advgan.demo
	@echo "now 216 cases, every attack of the smoke suite on eight pairs of voices; this takes some minutes"
	$(BIN)/speakerguard report --suite smoke --out out/demo/report --fail-on never

report: $(STAMP) ## attack the guard in every known way: SUITE=smoke, MODEL=campplus, PAIRS=FILE, FAIL_ON=policy
	$(BIN)/speakerguard report --suite "$(SUITE)" $(if $(MODEL),--model "$(MODEL)") \
		$(if $(PAIRS),--pairs "$(PAIRS)") --out out/report --fail-on "$(FAIL_ON)"

test: $(STAMP) ## the whole test suite; ARGS="-m corpus" for what ../shared adds
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore $(ALONE) $(ARGS)
	$(BIN)/python -m pytest $(ALONE) $(ARGS) || [ $$? -eq 5 ] # 5: ARGS leaves none of them

check: $(STAMP) ## format, lint, types and the site's links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) docs

docs: $(STAMP) ## the site, in docs/_build/html; a link or reference that leads nowhere fails
	$(BIN)/python -m sphinx -W -n --keep-going -q docs docs/_build/html

enroll: $(STAMP) ## enrol a voice: SPEAKER=alice AUDIO="a1.wav a2.wav"
	@test -n "$(SPEAKER)" -a -n "$(AUDIO)" || { echo 'usage: make enroll SPEAKER=alice AUDIO="a1.wav a2.wav"'; exit 2; }
	@$(BIN)/speakerguard enroll $(if $(MODEL),--model "$(MODEL)") "$(SPEAKER)" $(AUDIO)

verify: $(STAMP) ## verify a claim: SPEAKER=alice AUDIO=probe.wav
	@test -n "$(SPEAKER)" -a -n "$(AUDIO)" || { echo 'usage: make verify SPEAKER=alice AUDIO=probe.wav'; exit 2; }
	@$(BIN)/speakerguard verify $(if $(MODEL),--model "$(MODEL)") "$(SPEAKER)" "$(AUDIO)"

attack: $(STAMP) ## convert a voice and ask the guard: SOURCE=src.wav TARGET=tgt.wav ENROL="a.wav b.wav"
	@test -n "$(SOURCE)" -a -n "$(TARGET)" || { echo 'usage: make attack SOURCE=src.wav TARGET=tgt.wav'; exit 2; }
	@$(BIN)/advgan-infer --source "$(SOURCE)" --target "$(TARGET)" $(if $(MODEL),--guard "$(MODEL)") $(if $(ENROL),--enrol $(ENROL))

train: $(STAMP) ## train a guard: CONFIG=configs/guard.yaml; goes on after an interruption
	$(BIN)/speakerguard train --config $(CONFIG)

results: $(STAMP) ## measure the guard on the trials of ROOT and renew the tables
	$(BIN)/python tools/results.py $(if $(ROOT),--root "$(ROOT)")
	$(BIN)/python tools/summary.py

bench: $(STAMP) ## time the guard beside its peers on ROOT and renew the tables
	$(BIN)/python tools/bench.py $(if $(ROOT),--root "$(ROOT)")
	$(BIN)/python tools/summary.py

promote: $(STAMP) ## ship new weights with all that hangs on them: RUN=runs/guard-lessons; a day, resumable
	$(BIN)/python tools/promote.py $(if $(RUN),"$(RUN)")

lock: ## renew the locks from pyproject.toml
	$(PYTHON) tools/lock.py

clean: ## remove the environment and caches, not data or runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build docs/_build *.egg-info
