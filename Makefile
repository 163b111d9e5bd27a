# The same commands run on a developer's machine and in CI. Each target makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Nothing is fetched once the environment stands.
OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

.PHONY: install check test test-fast test-floor test-compat quickstart pictures bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(abspath constraints.txt) $(BIN)/pip install --quiet -e ".[dev]"
	touch $@

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(INSTALLED)
	$(OFFLINE) $(BIN)/pytest -n 2

# Without the tests that are marked as slow: tests/README.md says which those are.
test-fast: $(INSTALLED)
	$(OFFLINE) $(BIN)/pytest -n 2 --dist worksteal -m "not slow"

# The oldest Transformers that pyproject.toml allows, in an environment of its own. Stock's CTC loss took blanks that
# pad the labels for labels then, its x-vectors could not stay on disk, and Auto classes held on to their own
# configuration class when handed one.
test-floor:
	test -x .venv-floor/bin/python || $(PYTHON) -m venv .venv-floor
	.venv-floor/bin/pip install --quiet torch==2.13.0 "transformers==5.17.0" -e ".[dev]"
	$(OFFLINE) .venv-floor/bin/pytest -n 2 \
		--deselect tests/test_parity_of_losses.py::test_ctc_is_stocks \
		--deselect tests/test_parity_of_losses.py::test_ctc_reductions_are_stocks \
		--deselect tests/test_register.py::test_auto_classes_give_ours_after \
		--deselect "tests/test_loading.py::test_weights_can_stay_on_disk[Wav2Vec2ForXVector]"

# Models that this package has pushed to a Hub on loopback, loaded by name by stock Transformers 4.57 in an environment
# of its own; what was compared, and how far apart it was, is printed.
test-compat: $(INSTALLED)
	test -x .venv-compat/bin/python || $(PYTHON) -m venv .venv-compat
	.venv-compat/bin/pip install --quiet -r constraints-compat.txt
	$(OFFLINE) WAV2VEC2_STOCK_PYTHON=$(abspath .venv-compat/bin/python) WAV2VEC2_STOCK_VERSION=4.57. \
		$(BIN)/pytest tests/test_stock_by_name.py

# Synthetic speech, pretraining, fine-tuning, a language model, a model folder with its card: about five minutes.
quickstart: $(INSTALLED)
	$(OFFLINE) $(BIN)/wav2vec2 quickstart

# Every picture in docs/, from code and the measured data beside it.
pictures: $(INSTALLED)
	$(OFFLINE) $(BIN)/python docs/pictures/draw.py

bench: $(INSTALLED)
	$(BIN)/python benchmarks/pretraining_step.py --rounds 5
	$(BIN)/python benchmarks/pretraining_loop.py

clean:
	rm -rf $(VENV) .venv-floor .venv-compat .mypy_cache .ruff_cache .pytest_cache
