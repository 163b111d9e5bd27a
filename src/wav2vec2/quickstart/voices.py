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


#: Throats of espeak-ng that sound like people; robots, whispers and the throats of other voices below are left out.
_THROATS = (
    "m1 f1 m2 f2 m3 f3 m5 f5 m7 m8 Annie Mario adam Alicia Andrea Andy Diogo Gene Henrique Hugo Jacky Lee Marco Mike "
    "Reed antonio aunty belinda benjamin boris caleb david ed edward grandma grandpa gustave john linda max michel "
    "miguel norbert pablo paul pedro quincy rob sandro shelby steph travis victor zac"
)
_ACCENTS = ("en-US", "en", "en-GB-x-rp", "en-GB-scotland")

#: Those that are trained on: a throat each, at rates from 148 to 178 and pitches from 40 to 60 that follow no order.
TRAINING_VOICES = tuple(
    Voice(_ACCENTS[number % 4], throat, 148 + 7 * number % 31, 40 + 5 * number % 21, 40 + 9 * number % 21)
    for number, throat in enumerate(_THROATS.split())
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
