"""A simulated caller: hears questions, answers in a synthetic voice over a noisy line, and wants to arrive somewhere.

A caller answers each question on the way to the destination with a phrase that leads there, and with another one when
it is asked again. It agrees or denies when it is asked whether it said something, and says "start again" where it was
led astray. A caller of another kind says something else altogether, and is right at the operator alone.

Shapes: S samples.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from dialogue import Dialogue, Question
from numpy.typing import NDArray
from router import cut
from telephone import over_the_line
from voices import Speech

from wav2vec2.quickstart.speech_synthesis import SAMPLING_RATE
from wav2vec2.quickstart.spoken_corpus import Voice

#: What people say who want what nobody expected; no model was trained on any of it.
ELSEWHERE = (
    "my parrot escaped through an upstairs chimney", "which buses stop beside your museum",
    "are dogs allowed indoors", "could someone deliver twenty oranges tonight", "i lost both gloves during lunch",
    "play something cheerful instead", "when does swimming practice begin", "grandfather wants cinema tickets",
    "where can tourists park bicycles", "she never received birthday flowers", "tell him dinner was excellent",
    "who won yesterday evening", "an enormous spider lives here", "how tall is mount everest",
    "our ship sails at midnight", "dentist", "raspberry jam", "twenty four", "goodbye", "never mind sorry",
    "hello can anyone hear me", "what time does church finish", "umbrella", "blue socks",
)  # fmt: skip

#: Seconds before somebody answers, and seconds of the line behind the answer: more than anybody listens for.
REACTION, BEHIND = (0.3, 0.7), 15.0


@dataclass(frozen=True)
class Plan:
    """Who calls, and what they will say."""

    voice: Voice
    #: The destination that is wanted; None: none of them.
    wanted: str | None
    #: What is answered to each question, by its name: at first, and when it is asked again.
    answers: dict[str, list[str]]
    #: What is said to agree, to deny, and at a question that is not on the way.
    agree: str
    deny: str
    astray: str

    def texts(self) -> list[str]:
        """All that may be said, each once."""
        said = [text for texts in self.answers.values() for text in texts]
        return list(dict.fromkeys([*said, self.agree, self.deny, self.astray]))


def plan_of(dialogue: Dialogue, voice: Voice, wanted: str | None, seed: int) -> Plan:
    """What somebody says who wants to go there."""
    chance = random.Random(seed)
    way = {} if wanted is None else _way(dialogue, wanted)
    if wanted is None:
        answers = {question.name: chance.sample(ELSEWHERE, 3) for question in dialogue.questions}
    else:
        answers = {name: chance.sample(phrases, min(3, len(phrases))) for name, phrases in way.items()}
    back = [phrase for answer in dialogue.anywhere if answer.to == dialogue.start for phrase in answer.phrases]
    asked = dialogue.confirmation
    return Plan(voice, wanted, answers, chance.choice(asked.agreed), chance.choice(asked.denied), chance.choice(back))


def _way(dialogue: Dialogue, wanted: str) -> dict[str, list[str]]:
    """The questions from the start to a destination, each with the phrases that lead on."""
    ways: list[tuple[str, dict[str, list[str]]]] = [(dialogue.start, {})]
    for place, way in ways:
        if place == wanted:
            return way
        if place in {question.name for question in dialogue.questions} - way.keys():
            ways += [(answer.to, way | {place: answer.phrases}) for answer in dialogue.question(place).answers]
    raise ValueError(f"nothing leads to {wanted!r}")


class SimulatedCaller:
    """A `Line` with somebody at the other end. `speech` has every text of the plan; `snr` is the line's, in dB."""

    def __init__(self, dialogue: Dialogue, plan: Plan, speech: dict[str, Speech], snr: float | None, seed: int) -> None:
        self._dialogue, self._plan, self._speech, self._snr = dialogue, plan, speech, snr
        self._chance = np.random.default_rng(seed)
        self._asked: dict[str, int] = {}
        self._answer, self._last = "", ""
        #: Everything that was said, in order.
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Hear a question, and make up one's mind."""
        question = next((one for one in self._dialogue.questions if one.say in text), None)
        self._answer = self._confirmed(text) if question is None else self._answered(question)
        self.said.append(self._answer)

    def packets(self) -> Iterator[bytes]:
        """The answer, and the line behind it."""
        before = self._chance.uniform(*REACTION)
        return cut(self._over_the_line(self._speech[self._answer], (before, BEHIND)))

    def _over_the_line(self, speech: Speech, silence: tuple[float, float]) -> NDArray[np.int16]:
        return over_the_line(speech, SAMPLING_RATE, self._snr, self._chance, silence)

    def _answered(self, question: Question) -> str:
        texts: Sequence[str] = self._plan.answers.get(question.name, [])
        if not texts:
            return self._plan.astray
        time = self._asked.get(question.name, 0)
        self._asked[question.name] = time + 1
        self._last = texts[time % len(texts)]
        return self._last

    def _confirmed(self, text: str) -> str:
        """Agree if the phrase that one is asked about leads where the last answer should have led."""
        for question in self._dialogue.questions:
            for answer in question.answers:
                if self._last in answer.phrases and any(
                    text == self._dialogue.confirmation.say.replace("{phrase}", phrase) for phrase in answer.phrases
                ):
                    return self._plan.agree
        return self._plan.deny
