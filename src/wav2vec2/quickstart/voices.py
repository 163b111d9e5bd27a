"""The voices of the spoken corpus: accents of English and throats of espeak-ng, at different rates and pitches.

A throat (espeak's variant) and a pitch make a speaker. Held-out voices have throats that no training voice has.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Voice:
    """One speaker: espeak's file of the accent, its variant, words a minute, pitch and its range (0 to 100)."""

    accent: str
    throat: str
    rate: int
    pitch: int
    liveliness: int

    @property
    def name(self) -> str:
        """What the speaker is called in manifests.

        >>> Voice("en-GB-scotland", "f2", 160, 50, 40).name
        'en-gb-scotland_f2'
        """
        return f"{self.accent.lower()}_{self.throat}"

    @property
    def espeak_name(self) -> str:
        """As espeak's `espeak_SetVoiceByName` takes it."""
        return f"gmw/{self.accent}+{self.throat}"


#: Those that are trained on.
TRAINING_VOICES = (
    Voice("en-US", "m1", 165, 45, 50),
    Voice("en", "m2", 155, 40, 60),
    Voice("en-US", "m3", 175, 50, 40),
    Voice("en-GB-scotland", "m5", 160, 55, 50),
    Voice("en-GB-x-rp", "m7", 150, 48, 45),
    Voice("en", "m8", 170, 52, 55),
    Voice("en-US", "f1", 165, 50, 50),
    Voice("en", "f2", 160, 55, 60),
    Voice("en-GB-x-rp", "f3", 170, 45, 50),
    Voice("en-GB-scotland", "f5", 150, 50, 40),
    Voice("en-US", "Annie", 158, 48, 50),
    Voice("en", "Mario", 162, 50, 55),
)

#: On which checkpoints are compared, and the weights of the language model are found.
DEVELOPMENT_VOICES = (Voice("en-US", "Michael", 160, 50, 50), Voice("en", "anika", 160, 50, 50))

#: On which the model is measured, once.
TEST_VOICES = (
    Voice("en-US", "m4", 168, 48, 50),
    Voice("en", "m6", 158, 52, 50),
    Voice("en-GB-x-rp", "f4", 162, 52, 50),
    Voice("en-US", "Alex", 160, 50, 50),
)
