"""What values a field of the run configuration may have, said in its type: `Annotated[float, Between(0, 1)]`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included; `above=True` leaves `low` itself out."""

    low: float
    high: float = math.inf
    above: bool = False

    def allows(self, value: float) -> bool:
        """Is the number inside?"""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        least = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return least if self.high == math.inf else f"{least} and at most {self.high:g}"


class OneOf:
    """One of these names."""

    def __init__(self, *names: str) -> None:
        self.names: tuple[str, ...] = names

    def allows(self, value: object) -> bool:
        """Is it one of them?"""
        return value in self.names

    def __str__(self) -> str:
        return "one of " + ", ".join(self.names)


Limit = Between | OneOf


def limits_in(metadata: Iterable[object]) -> list[Limit]:
    """The limits among the annotations of a type."""
    return [item for item in metadata if isinstance(item, Between | OneOf)]
