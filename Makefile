# make help lists the targets; tasks.py holds what they do. Settings, each as NAME=VALUE behind a target:
#   DATA=/path/to/cityscapes    images and labels (default: ./data, or drawn street scenes)
#   EPOCHS=200                  epochs of both notebooks
#   RESUME=True                 continue from the last finished epoch; without it training starts from scratch
#   PYTHON=python3.12           the Python that .venv is made with
#   VENV_FLAGS=--system-site-packages    keep a server's own torch
#   LOCKED=1                    the very packages of requirements.lock, with their hashes
PYTHON ?= python3
export PYTHON VENV VENV_FLAGS LOCKED DATA EPOCHS RESUME

TARGETS = setup lab test clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup:  ## make .venv with the packages (LOCKED=1: those of the lock)
lab:    ## train both networks and score them (DATA=/path EPOCHS=200 RESUME=True)
test:   ## run the tests
### BEGIN HIDDEN
test:   ## - of one room: make test ROOM=dataset
export ROOM
TARGETS += lock test-long bench kit

lock:       ## pin what requirements.txt installs today, with hashes (needs uv)
test-long:  ## run the tests that take minutes each
bench:      ## measure speed side by side (DATA=/path for real images)
kit:        ## make the students' kit, DL_Lab5.tar
### END HIDDEN
clean:  ## remove runs, the drawn sample and both trained networks

.PHONY: help $(TARGETS)
$(TARGETS):
	@$(PYTHON) tasks.py $@
