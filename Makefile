# make lab                                 set up, draw the sample, train both networks, score both
# make lab DATA=/path/to/cityscapes EPOCHS=200     the same on real data
# make test                                set up and pass the tests
#
# RESUME=True goes on from the last finished epoch after an interruption; without it training starts anew.
# PYTHON=python3.12 picks the Python; VENV_FLAGS=--system-site-packages keeps a server's own torch.
PYTHON     ?= python3
VENV       ?= .venv
VENV_FLAGS ?=
DATA       ?= ./data
EPOCHS     ?=
RESUME     ?=

RUN      = $(VENV)/bin/python
SETTINGS = -p DATA "$(DATA)" $(if $(EPOCHS),-p EPOCHS "$(EPOCHS)") $(if $(RESUME),-p RESUME "$(RESUME)")

### BEGIN HIDDEN
# Two files of tests at a time, which is what two cores do best; PARALLEL= runs them one by one.
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder
### END HIDDEN
.PHONY: lab test setup clean
.DELETE_ON_ERROR:

lab: $(VENV)/.installed
	@$(RUN) -m dataset.dataset "$(DATA)"
	@$(RUN) -m training.headless Lab05_segmentation_task1.ipynb $(SETTINGS)
	@$(RUN) -m training.headless Lab05_segmentation_task2.ipynb $(SETTINGS)
	@$(RUN) test_task1.py model_task1.pth "$(DATA)"
	@$(RUN) test_task2.py model_task2.pth "$(DATA)"

test: $(VENV)/.installed-dev
### BEGIN HIDDEN
	@$(RUN) -m ruff check .
### END HIDDEN
	@$(RUN) -m pytest $(PARALLEL)

### BEGIN HIDDEN
# make bench                               set up and measure speed (on DATA's pictures, if given)
.PHONY: bench
bench: $(VENV)/.installed-dev
	@$(RUN) -m benchmarks $(if $(filter-out ./data,$(DATA)),--data "$(DATA)")

### END HIDDEN
setup: $(VENV)/.installed

# A stamp is written only when the installation went through, so an interrupted one is simply done again.
$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "error: expected Python 3.10 or newer, found %d.%d: pass PYTHON=python3.12, say" % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV_FLAGS) "$(VENV)"
	@$(RUN) -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@$(RUN) -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf runs data/sample model_task1.pth model_task2.pth
