"""Which cases of a grid are quick enough for `make test-fast`: a few of them show most of what all of them show."""

from collections.abc import Iterable
from typing import Any

import pytest


def fast_cases(cases: Iterable[Any], *fast: Any) -> list[Any]:
    """All cases for `pytest.mark.parametrize`; those that are not among the fast ones are marked as slow."""
    cases = list(cases)
    unknown = [one for one in fast if one not in cases]
    assert not unknown, f"no such cases: {unknown}"
    return [one if one in fast else pytest.param(one, marks=pytest.mark.slow) for one in cases]
