# Two promises: `make demo` and `make test` work on a fresh machine with Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Warnings are errors. The variable silences an advertisement for the generator's successor.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: demo test test-all check docs install constraints clean

demo: $(INSTALLED)
	$(BIN)/lossatlas render examples/mode-connectivity/spec.yaml
	$(BIN)/lossatlas export poster demo/mode-connectivity.zarr demo/mode-connectivity.png
	$(BIN)/lossatlas render examples/mode-connectivity/film.yaml
	$(BIN)/lossatlas export film demo/mode-connectivity-film.zarr demo/mode-connectivity.mp4 \
		--interpolate 23 --size 1280x720

# Two processes, each with files of its own; those that share a Ray come first (tests/conftest.py).
test: $(INSTALLED)
	$(BIN)/pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder

test-all: $(INSTALLED)
	$(BIN)/pytest -m "not gpu" --timeout 3600

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MKDOCS)

docs: $(INSTALLED)
	$(MKDOCS)

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# Writes down what is installed now. Torch without its build tag, so that any build may serve.
constraints:
	(sed -n '/^#/p' constraints.txt; \
	 $(BIN)/pip freeze --exclude-editable | sed 's/+cpu//') > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) demo build *.egg-info
