# make train   a VQ-VAE on real handwritten digits, in minutes on a laptop
# make test    everything that needs no network and no data from elsewhere
PYTHON ?= python3
VENV := .venv
CORES := $(shell $(PYTHON) -c "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())")

.PHONY: train test clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --upgrade pip
	$(VENV)/bin/pip install -c constraints.txt -e ".[test]"
	touch $@

train: $(VENV)/installed
	$(VENV)/bin/accelerate launch --num_cpu_threads_per_process $(CORES) scripts/train.py --recipe scripts/recipes/vqvae-digits.yaml --output_dir runs/vqvae-digits --overwrite

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(CORES) --dist loadfile -m "not slow and not mnist"

clean:
	rm -rf $(VENV) runs
