"""Every example in a docstring runs and prints what it says."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import wav2vec2

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(wav2vec2.__path__, "wav2vec2.") if not module.name.endswith("__")
)


@pytest.mark.parametrize("name", ["wav2vec2", *MODULES])
def test_examples_of_a_module_are_true(name: str) -> None:
    failures, _ = doctest.testmod(import_module(name), verbose=False, raise_on_error=False)
    assert failures == 0


def test_there_are_examples() -> None:
    """At least where a formula is easiest to read as one: lengths, masks, distractors, the configuration."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_examples = {name for name in MODULES if any(test.examples for test in finder.find(import_module(name), name))}
    assert with_examples >= {
        "wav2vec2.configuration.wav2vec2_config",
        "wav2vec2.modeling.feature_encoder",
        "wav2vec2.modeling.span_masking",
        "wav2vec2.modeling.distractor_sampling",
    }
