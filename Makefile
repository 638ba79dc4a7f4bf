# make train   a VQ-VAE on real handwritten digits, in minutes on a laptop
# make test    everything that needs no network and no data from elsewhere
# make lint    ruff: errors and layout; ty: names, calls and imports
# make docs    the documentation site, docs/_build/html/index.html; runs the tutorial
PYTHON ?= python3
VENV := .venv
CORES := $(shell $(PYTHON) -c "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())")

.PHONY: train test lint docs clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --upgrade pip
	$(VENV)/bin/pip install -c constraints.txt -e ".[test]"
	touch $@

train: $(VENV)/installed
	$(VENV)/bin/accelerate launch --num_cpu_threads_per_process $(CORES) scripts/train.py --recipe scripts/recipes/vqvae-digits.yaml --output_dir runs/vqvae-digits --overwrite

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(CORES) --dist loadfile -m "not slow and not mnist"

$(VENV)/%-installed: $(VENV)/installed
	$(VENV)/bin/pip install -c constraints.txt -e ".[$*]"
	touch $@

lint: $(VENV)/lint-installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ty check --python $(VENV) hf_autoencoders

docs: $(VENV)/docs-installed
	OMP_NUM_THREADS=$(CORES) $(VENV)/bin/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) runs docs/_build
