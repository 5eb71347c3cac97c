# make demo   the whole job on alanine dipeptide, 3 to 6 minutes on 2 cores
# make test   lint and the whole test suite, with real PLUMED
# make lint   ruff and mypy only        make format  let ruff lay out the code
# make bench  every benchmark, one table
# make soak   memory, handles and threads of runs of 20 minutes; runs of each kind killed 50 times
# make test-cluster   windows on a real Slurm of this machine, where slurm-wlm and munge are installed
# make docs   the documentation with its tutorials run, in docs/_build/html
# make dist   wheel and sdist; the wheel alone in an environment of its own runs the quick demo
# make clean  remove the virtual environment and what the demo wrote

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Byte code of what was installed, by all cores and without the tests of others: pip, on one core and
# with them, is longer at it than at all else. Some files are templates, and no Python.
BYTE_CODE := -$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib

.PHONY: demo test pytest lint format bench soak test-cluster docs dist clean

demo: $(VENV)/.installed
	$(BIN)/openmm-cgan demo --out demo --overwrite

# A process for each core, of one thread: on molecules and networks this small, threads mostly wait
# for each other. Compiled files are kept: each process that a test starts would compile them anew.
# mypy, which has one core only, is beside them.
test: $(VENV)/.installed-test
	$(MAKE) -j 2 lint pytest

pytest: $(VENV)/.installed-test
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-test
	$(PIP) install -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/table.py

soak: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kill_resume.py

# Not part of test: the daemons are Debian's, and their minutes are mostly waited through.
test-cluster: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/cluster.py --steps 1000 \
		--executor slurm parsl-slurm slurm-node slurm-walltime --json benchmarks/results/cluster.json

docs: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[docs]'
	OMP_NUM_THREADS=1 $(BIN)/python docs/build.py

# Outside the tree, so that nothing of it can be imported by accident.
dist: $(VENV)/.installed
	rm -rf dist build
	$(PIP) install hatchling
	$(BIN)/python -m hatchling build
	$(PYTHON) -m venv build/alone
	build/alone/bin/python -m pip --disable-pip-version-check install -c constraints.txt dist/*.whl
	cd build && alone/bin/openmm-cgan demo --quick --out demo
	ls -l dist

clean:
	rm -rf $(VENV) demo bench dist build docs/_build

# An environment is made once and again only when what it installs has changed.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version + "; try make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --no-compile -c constraints.txt -e .
	$(BYTE_CODE)
	touch $@

# hillclimber's wheel is a whole PLUMED (kernel and Python package); what else it asks for is not needed here
$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --no-compile -c constraints.txt -e '.[test]'
	$(PIP) install --no-compile --no-deps -c constraints.txt hillclimber
	$(BYTE_CODE)
	touch $@
