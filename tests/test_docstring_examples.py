"""Every example in a docstring runs and prints what it says."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import wav2vec2

PACKAGE = Path(wav2vec2.__file__).parent

#: The modules that have some.
WITH_EXAMPLES = sorted(
    ".".join(("wav2vec2", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_a_module_are_true(name: str) -> None:
    result = doctest.testmod(import_module(name), verbose=False, raise_on_error=False)
    assert result.attempted > 0
    assert result.failed == 0


def test_there_are_examples() -> None:
    """At least where a formula is easiest to read as one: lengths, masks, distractors, the configuration."""
    assert set(WITH_EXAMPLES) >= {
        "wav2vec2.configuration.wav2vec2_config",
        "wav2vec2.configuration.frame_arithmetic",
        "wav2vec2.modeling.span_masking",
        "wav2vec2.modeling.contrastive_loss",
    }
