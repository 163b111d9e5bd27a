"""A telephone dialogue as data: questions, what may be said to each, and where that leads. Read strictly.

`read_dialogue` says everything that is wrong in a file at once, each with its line: an unknown key, a place that is not
there, a phrase that the recogniser has no letters for, a question that nobody reaches, one that leads nowhere.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from wav2vec2.training.settings.strict_yaml import RecipeSyntaxError, read_file
from wav2vec2.training.settings.typed_values import Between, Complaint, Problem, construct, suggestion

Share = Annotated[float, Between(0, 1)]
Seconds = Annotated[float, Between(0.5, 120)]


class DialogueError(ValueError):
    """A file that is no dialogue, with all that is wrong in it, a line each."""


@dataclass(frozen=True)
class Listening:
    """How an answer is waited for and judged; the file says what each of these means."""

    repeats: Annotated[int, Between(0, 10)] = 2
    sure: Share = 0.8
    doubtful: Share = 0.5
    patience: Seconds = 5.0
    longest: Seconds = 12.0


@dataclass(frozen=True)
class Answer:
    """`phrases` that lead `to` a question or a destination."""

    to: str
    phrases: list[str]


@dataclass(frozen=True)
class Question:
    """What is asked, and the answers to it. What is None is as in the dialogue's `listening`."""

    #: What answers call it by.
    name: str
    #: What the caller is asked.
    say: str
    answers: list[Answer]
    repeats: Annotated[int, Between(0, 10)] | None = None
    sure: Share | None = None
    doubtful: Share | None = None


@dataclass(frozen=True)
class Confirmation:
    """What is asked where an answer is doubtful, `{phrase}` standing for it, and phrases that agree and that deny."""

    say: str
    agreed: list[str]
    denied: list[str]


@dataclass(frozen=True)
class Dialogue:
    """All of it."""

    #: The first question.
    start: str
    #: Where calls go that the dialogue cannot help.
    operator: str
    #: Where else calls arrive.
    destinations: list[str]
    questions: list[Question]
    confirmation: Confirmation
    #: What may be said at every question.
    anywhere: list[Answer] = field(default_factory=list)
    listening: Listening = field(default_factory=Listening)
    #: Questions in a call at most, repeated ones and confirmations among them. No call can go on for ever.
    most_turns: Annotated[int, Between(1, 100)] = 12

    def question(self, name: str) -> Question:
        """The question of this name."""
        return next(one for one in self.questions if one.name == name)

    def answers(self, question: Question) -> list[Answer]:
        """All that may be said to it."""
        return [*question.answers, *self.anywhere]

    def rules(self, question: Question) -> Listening:
        """How its answers are waited for and judged."""
        own = {name: getattr(question, name) for name in ("repeats", "sure", "doubtful")}
        return replace(self.listening, **{name: value for name, value in own.items() if value is not None})

    def phrases(self) -> list[str]:
        """All that is ever understood, each once."""
        answers = [answer for question in self.questions for answer in self.answers(question)]
        said = [phrase for answer in answers for phrase in answer.phrases]
        return list(dict.fromkeys([*said, *self.confirmation.agreed, *self.confirmation.denied]))

    def problems(self) -> Iterator[Problem]:
        """What makes no sense, by the key where it stands."""
        names = [question.name for question in self.questions]
        ends = {self.operator, *self.destinations}
        for number, name in enumerate(names):
            if name in names[:number] or name in ends:
                yield f"questions.{number}.name", f"{name!r} is the name of another question or destination"
        if self.start not in names:
            yield "start", f"is no question{suggestion(self.start, names)}"
        for key, answer in self._answers_by_key():
            if answer.to not in {*names, *ends}:
                yield (
                    f"{key}.to",
                    f"{answer.to!r} is no question and no destination{suggestion(answer.to, [*names, *ends])}",
                )
        if "{phrase}" not in self.confirmation.say:
            yield "confirmation.say", "must have {phrase} where the answer stands"
        yield from self._what_is_said_twice()
        yield from self._thresholds()
        yield from self._dead_ends(names, ends)

    def _answers_by_key(self) -> Iterator[tuple[str, Answer]]:
        for number, question in enumerate(self.questions):
            for place, answer in enumerate(question.answers):
                yield f"questions.{number}.answers.{place}", answer
        for place, answer in enumerate(self.anywhere):
            yield f"anywhere.{place}", answer

    def _what_is_said_twice(self) -> Iterator[Problem]:
        """A phrase must lead to one place, at each question and when an answer is confirmed."""
        yes, no = self.confirmation.agreed, self.confirmation.denied
        everywhere = [(f"anywhere.{place}", answer.to, answer.phrases) for place, answer in enumerate(self.anywhere)]
        sets = [[("confirmation.agreed", "agreed", yes), ("confirmation.denied", "denied", no), *everywhere]]
        for number, question in enumerate(self.questions):
            own = [
                (f"questions.{number}.answers.{place}", one.to, one.phrases)
                for place, one in enumerate(question.answers)
            ]
            sets.append([*own, *everywhere])
        for one in sets:
            leads: dict[str, str] = {}
            for key, to, phrases in one:
                if not phrases:
                    yield key, "has no phrase"
                for phrase in phrases:
                    if leads.setdefault(phrase, to) != to:
                        yield (
                            key,
                            f"{phrase!r} leads to {leads[phrase]!r} and to {to!r}: a phrase must lead to one place",
                        )

    def _thresholds(self) -> Iterator[Problem]:
        for number, question in enumerate(self.questions):
            rules = self.rules(question)
            if rules.doubtful > rules.sure:
                where = "listening" if question.sure is None and question.doubtful is None else f"questions.{number}"
                yield where, f"doubtful is {rules.doubtful:g}, which must be at most sure, {rules.sure:g}"

    def _dead_ends(self, names: Sequence[str], ends: set[str]) -> Iterator[Problem]:
        """Questions that nobody comes to, or from which no answer leads on; destinations that no answer leads to."""
        leads = {question.name: {one.to for one in question.answers} for question in self.questions}
        reached = _reached(leads, [self.start, *(answer.to for answer in self.anywhere)])
        leaves = {name for name in names if _reached(leads, [name]) & ends}
        for number, name in enumerate(names):
            if name not in reached:
                yield f"questions.{number}", f"no answer leads to {name!r}"
            if name not in leaves:
                yield (
                    f"questions.{number}.answers",
                    f"{name!r} cannot be left: no answers lead from it to a destination",
                )
        for place in self.destinations:
            if place not in reached:
                yield "destinations", f"no answer leads to {place!r}"


def _reached(leads: Mapping[str, set[str]], starts: Iterable[str]) -> set[str]:
    """All that is reached from some places, themselves among it."""
    found, waiting = set[str](), list(starts)
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += leads.get(place, ())
    return found


def read_dialogue(path: Path, letters: Iterable[str] = "abcdefghijklmnopqrstuvwxyz'") -> Dialogue:
    """The dialogue of a file, whose phrases are made of these letters. All that is wrong is one `DialogueError`."""
    try:
        tree, lines = read_file(path)
    except RecipeSyntaxError as error:
        raise DialogueError(f"{path}: {error}") from error
    complaints: list[Complaint] = []
    found = construct(Dialogue, tree, "", complaints)
    if not complaints:
        complaints += _unspellable(found, set(letters) | {" "})
    if complaints:
        raise DialogueError("\n".join(f"{path}{_line(one.key, lines)}: {one.key}: {one.text}" for one in complaints))
    dialogue: Dialogue = found
    return dialogue


def _unspellable(dialogue: Dialogue, letters: set[str]) -> Iterator[Complaint]:
    both = [
        ("confirmation.agreed", dialogue.confirmation.agreed),
        ("confirmation.denied", dialogue.confirmation.denied),
    ]
    every = [*((f"{key}.phrases", answer.phrases) for key, answer in dialogue._answers_by_key()), *both]
    for key, phrases in every:
        for place, phrase in enumerate(phrases):
            lacking = sorted({*phrase} - letters)
            if lacking:
                text = f"{phrase!r} has {''.join(lacking)!r}, which the recogniser has no letter for"
                yield Complaint(f"{key}.{place}", phrase, text)
            elif phrase.split(" ") != phrase.split() or not phrase:
                yield Complaint(f"{key}.{place}", phrase, f"{phrase!r}: write words with one blank between them")


def _line(key: str, lines: Mapping[str, int]) -> str:
    """The line of a key, or of the nearest above it that the file has."""
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return f", line {lines[key]}" if key else ""
