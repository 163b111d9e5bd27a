"""Where an utterance ends: by silence, which a frame shows in its level and in what the model says of it.

Shapes: T frames, V tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wav2vec2.inference.streaming.spoken_tokens import SpokenTokens


@dataclass(frozen=True)
class EndpointRules:
    """When an utterance is over. A frame is silent if it is quieter than `quiet`, or if the model gives blank and word
    delimiter together at least the probability `blank_share`. None switches a rule off."""

    #: Seconds of silence after text.
    silence_after_text: float | None = 0.8
    #: Seconds of silence in which no text was heard. Off: silence alone is no utterance.
    silence_without_text: float | None = None
    #: Seconds from the first letter on. After four fifths of it the first pause between words ends the utterance.
    longest: float | None = 30.0
    #: In decibels below a square wave of full scale.
    quiet: float = -60.0
    #: Between 0 and 1.
    blank_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("silence_after_text", "silence_without_text", "longest"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value}: must be positive seconds, or None")
        if not 0 < self.blank_share <= 1:
            raise ValueError(f"blank_share={self.blank_share}: must be above 0 and at most 1")


class EndpointDetector:
    """Follows one stream, a frame after the other."""

    def __init__(self, rules: EndpointRules, seconds_per_frame: float, tokens: SpokenTokens) -> None:
        self.rules, self.tokens = rules, tokens
        self._frame = seconds_per_frame
        self._start()

    def _start(self) -> None:
        """A new utterance."""
        #: Frames since the last that was not silent.
        self._silence = 0
        #: Frames since the first letter, with it.
        self._spoken = 0
        #: Whether there was a letter that was not silent. A model may see letters in silence as well.
        self._has_text = False

    def ends(self, log_probs: Tensor, levels: NDArray[np.float32]) -> Iterator[int]:
        """The numbers of frames of (T, V), with levels (T,), behind which an utterance ends."""
        best, shares = self.tokens.best(log_probs), self.tokens.silence(log_probs)
        for number, (token, share, level) in enumerate(zip(best, shares, levels.tolist(), strict=True), 1):
            is_letter = token not in self.tokens.silent
            if self._spoken or is_letter:
                self._spoken += 1
            self._has_text |= is_letter and level >= self.rules.quiet
            silent = share >= self.rules.blank_share or level < self.rules.quiet
            self._silence = self._silence + 1 if silent else 0
            if self._is_over(token):
                self._start()
                yield number

    def _is_over(self, token: int) -> bool:
        rules = self.rules
        enough = rules.silence_after_text if self._has_text else rules.silence_without_text
        if self._lasts(self._silence, enough):
            return True
        pause = token == self.tokens.delimiter and rules.longest is not None
        return self._lasts(self._spoken, rules.longest) or (
            pause and self._lasts(self._spoken, 0.8 * (rules.longest or 0.0))
        )

    def _lasts(self, frames: int, seconds: float | None) -> bool:
        return seconds is not None and frames * self._frame >= seconds - 1e-9
