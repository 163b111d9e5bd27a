"""A telephone dialogue: it asks, hears, asks again where it did not understand, and puts the call through.

    python examples/call_routing/router.py --check
    python examples/call_routing/router.py --service ws://127.0.0.1:8000/vosk one.wav two.wav
    python examples/call_routing/router.py --model outputs/telephone/model/model one.wav two.wav --output call.json

The recordings are a caller's answers, one to each question: any audio file, or G.711 (mu-law, 8 kHz) as .ul or .ulaw.
Behind the last the caller hangs up. Every call ends: there is a most number of questions, a most number of seconds an
answer may take, of sound and by the clock, and a line or a recogniser that fails is an end as well.
"""

import argparse
import json
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from dialogue import Answer, Dialogue, Listening, Question, read_dialogue
from recognisers import HeardWord, Model, Recogniser, RecogniserLostError, VoskService
from telephone import RATE, from_mu_law

from wav2vec2 import StreamingRecogniser, load_audio
from wav2vec2.decoding.expected_phrases import UNKNOWN
from wav2vec2.processing.waveforms import resample

#: Seconds of sound in a packet, and seconds by the clock within which the line must bring the next one.
PACKET_SECONDS, LINE_SECONDS = 0.2, 10.0


class Line(Protocol):
    """A telephone line with a caller at the other end."""

    def say(self, text: str) -> None:
        """Let the caller hear this."""

    def packets(self) -> Iterator[bytes]:
        """What comes from now on: 16 bit samples at 8 kHz, silence as well; it ends when the caller hangs up."""


@dataclass(frozen=True)
class Heard:
    """What came of listening for one answer."""

    words: list[HeardWord]
    #: Of sound.
    seconds: float
    #: What ended it: the caller's pause, nothing said, too much said, or the receiver.
    ended_by: Literal["pause", "silence", "length", "hanging up"]


@dataclass
class Turn:
    """One question and what became of it."""

    question: str
    kind: Literal["question", "repeat", "confirmation"]
    said: str
    heard: str
    words: list[HeardWord]
    ended_by: str
    seconds: float
    #: Where the answer leads, as far as one was understood, and how sure that is.
    understood: str | None
    confidence: float
    decision: str = ""


@dataclass
class Call:
    """The record of a call, as it is kept in JSON."""

    #: "arrived" at the destination `at`; "operator": handed over to a person; "hung up".
    ended: Literal["arrived", "operator", "hung up"] = "operator"
    at: str | None = None
    why: str = ""
    seconds: float = 0.0
    turns: list[Turn] = field(default_factory=list)


class CallOverError(Exception):
    """The call has ended; its record says how."""


class Router:
    """Leads calls through a dialogue."""

    def __init__(self, dialogue: Dialogue, recogniser: Recogniser, line_seconds: float = LINE_SECONDS) -> None:
        self._dialogue, self._recogniser, self._line_seconds = dialogue, recogniser, line_seconds

    def lead(self, line: Line) -> Call:
        """One call, to its end."""
        call = Call()
        try:
            place = self._dialogue.start
            while place in {question.name for question in self._dialogue.questions}:
                place = self._ask(self._dialogue.question(place), line, call)
            asked_for = place == self._dialogue.operator
            self._end(call, "operator" if asked_for else "arrived", place, "the caller's choice")
        except CallOverError:
            pass
        except RecogniserLostError as error:
            call.ended, call.at, call.why = "operator", self._dialogue.operator, f"recogniser lost: {error}"
        call.seconds = round(sum(turn.seconds for turn in call.turns), 3)
        return call

    def _ask(self, question: Question, line: Line, call: Call) -> str:
        """Where the caller wants to go from a question; it is repeated until that is understood, within reason."""
        rules = self._dialogue.rules(question)
        for attempt in range(1 + rules.repeats):
            said = question.say if attempt == 0 else f"Sorry, please say that again. {question.say}"
            kind: Literal["question", "repeat"] = "repeat" if attempt else "question"
            turn, answer = self._turn(call, line, question.name, kind, said, self._dialogue.answers(question), rules)
            if answer is not None and turn.confidence >= rules.sure:
                turn.decision = f"go to {answer.to}"
                return answer.to
            if answer is not None and turn.confidence >= rules.doubtful:
                turn.decision = "confirm"
                confirmed = self._confirm(question, answer, turn, line, call, rules)
                if confirmed is not None:
                    return confirmed
            else:
                turn.decision = "repeat"
        self._end(
            call, "operator", self._dialogue.operator, f"{question.name}: not understood {1 + rules.repeats} times"
        )
        raise CallOverError

    def _confirm(
        self, question: Question, answer: Answer, turn: Turn, line: Line, call: Call, rules: Listening
    ) -> str | None:
        """Where a doubtful answer leads if the caller agrees, or changes the subject; None: ask again."""
        asked = self._dialogue.confirmation
        phrase = matched(turn.words, [answer])[1]
        answers = [Answer("agreed", asked.agreed), Answer("denied", asked.denied), *self._dialogue.anywhere]
        said = asked.say.replace("{phrase}", phrase)
        reply, heard = self._turn(call, line, question.name, "confirmation", said, answers, rules)
        if heard is None or heard.to == "denied" or reply.confidence < rules.doubtful:
            reply.decision = "repeat"
            return None
        to = answer.to if heard.to == "agreed" else heard.to
        reply.decision = f"go to {to}"
        return to

    def _turn(
        self,
        call: Call,
        line: Line,
        name: str,
        kind: Literal["question", "repeat", "confirmation"],
        said: str,
        answers: Sequence[Answer],
        rules: Listening,
    ) -> tuple[Turn, Answer | None]:
        """Say something, and hear an answer to it."""
        if len(call.turns) >= self._dialogue.most_turns:
            self._end(call, "operator", self._dialogue.operator, f"more than {self._dialogue.most_turns} questions")
            raise CallOverError
        line.say(said)
        heard = self._listen(line, [phrase for answer in answers for phrase in answer.phrases], rules)
        answer, _, confidence = matched(heard.words, answers)
        text, to = " ".join(word.text for word in heard.words), answer.to if answer else None
        turn = Turn(name, kind, said, text, heard.words, heard.ended_by, round(heard.seconds, 3), to, confidence)
        call.turns.append(turn)
        if heard.ended_by == "hanging up":
            self._end(call, "hung up", None, f"{name}: the caller hung up")
            raise CallOverError
        return turn, answer

    def _listen(self, line: Line, phrases: Sequence[str], rules: Listening) -> Heard:
        """Hear an answer. It ends with the caller's pause, and without one after the seconds of the rules."""
        ear, seconds = self._recogniser.listen_for(phrases), 0.0
        try:
            for packet in in_time(line.packets(), self._line_seconds):
                seconds += len(packet) / 2 / RATE
                if (words := ear.hear(packet)) is not None:
                    return Heard(words, seconds, "pause")
                if seconds >= rules.longest:
                    return Heard(ear.finish(), seconds, "length")
                if seconds >= rules.patience and not ear.has_words:
                    return Heard(ear.finish(), seconds, "silence")
            return Heard(ear.finish(), seconds, "hanging up")
        finally:
            ear.close()

    @staticmethod
    def _end(call: Call, ended: Literal["arrived", "operator", "hung up"], at: str | None, why: str) -> None:
        call.ended, call.at, call.why = ended, at, why


def matched(words: Sequence[HeardWord], answers: Iterable[Answer]) -> tuple[Answer | None, str, float]:
    """The answer that words give, by the longest of its phrases among them, and how sure it is.

    That is the mean confidence of the words, of which those outside the phrase count nothing: the more is said that
    was not expected, the less is it an answer. Phrases that lead to different places, side by side, are none.
    """
    texts = [word.text for word in words]
    places = []
    for answer in answers:
        for phrase in answer.phrases:
            parts = phrase.split()
            for begin in range(len(texts) - len(parts) + 1):
                if texts[begin : begin + len(parts)] == parts:
                    places.append((begin, begin + len(parts), answer, phrase))
    if not places:
        return None, "", 0.0
    begin, end, answer, phrase = max(places, key=lambda place: place[1] - place[0])
    if any(other.to != answer.to and (last <= begin or first >= end) for first, last, other, _ in places):
        return None, "", 0.0
    return answer, phrase, sum(word.confidence for word in words[begin:end] if word.text != UNKNOWN) / len(words)


def in_time(packets: Iterator[bytes], seconds: float) -> Iterator[bytes]:
    """Packets of a line, which has ended if none comes for so many seconds by the clock, or if it fails."""
    waiting: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
    heard_enough = threading.Event()

    def fetch() -> None:
        try:
            for packet in packets:
                waiting.put(packet)
                if heard_enough.is_set():
                    return
        except OSError:
            pass  # a line that fails brings nothing more
        waiting.put(None)

    threading.Thread(target=fetch, daemon=True).start()
    try:
        while (packet := waiting.get(timeout=seconds)) is not None:
            yield packet
    except queue.Empty:
        pass
    finally:
        heard_enough.set()
        while not waiting.empty():
            waiting.get_nowait()


def cut(samples: np.ndarray) -> Iterator[bytes]:
    """16 bit samples at 8 kHz in packets."""
    size = round(PACKET_SECONDS * RATE)
    for begin in range(0, len(samples), size):
        yield samples[begin : begin + size].astype("<i2").tobytes()


class Recordings:
    """A line on which recordings answer, one a question, each with silence behind it."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._answers = iter([recording(path) for path in files])

    def say(self, text: str) -> None:
        """Print it."""
        print(f"- {text}")

    def packets(self) -> Iterator[bytes]:
        """The next recording."""
        for samples in self._answers:
            yield from cut(samples)
            while True:
                yield bytes(2 * round(PACKET_SECONDS * RATE))


def recording(path: Path) -> np.ndarray:
    """The 16 bit samples at 8 kHz of a file."""
    if path.suffix.lower() in (".ul", ".ulaw"):
        return from_mu_law(path.read_bytes())
    samples = load_audio(path)
    return (np.clip(resample(samples, 16_000, RATE), -1, 1) * 0x7FFF).astype(np.int16)


def main() -> int:
    """A call, or a look at the dialogue."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path, nargs="*", help="recordings of what the caller says")
    parser.add_argument("--dialogue", type=Path, default=Path(__file__).with_name("dialogue.yaml"))
    parser.add_argument("--check", action="store_true", help="only say whether the dialogue is right")
    parser.add_argument("--service", help="where Vosk's protocol is spoken, such as ws://127.0.0.1:8000/vosk")
    parser.add_argument("--model", help="a model to hear with in this process, instead of a service")
    parser.add_argument("--output", type=Path, help="where the call is written to, as JSON")
    asked = parser.parse_args()
    if not asked.check and (asked.service is None) == (asked.model is None):
        parser.error("give --service or --model, or --check")
    try:
        letters: list[str] | None = None
        recogniser: Recogniser | None = None
        if asked.model is not None:
            loaded = StreamingRecogniser.from_pretrained(asked.model, device="cpu")
            letters = [token.lower() for token in loaded.processor.tokenizer.tokens if len(token) == 1]
            recogniser = Model(loaded)
        elif asked.service is not None:
            recogniser = VoskService(asked.service)
        dialogue = read_dialogue(asked.dialogue, *([letters] if letters else []))
        if recogniser is None:
            print(f"{asked.dialogue}: {len(dialogue.questions)} questions, {len(dialogue.phrases())} phrases")
            return 0
        call = Router(dialogue, recogniser).lead(Recordings(asked.answers))
    except (OSError, ValueError) as error:  # a DialogueError is a ValueError
        print(error, file=sys.stderr)
        return 1
    text = json.dumps(asdict(call), indent=1) + "\n"
    if asked.output is None:
        print(text, end="")
    else:
        asked.output.write_text(text, encoding="utf-8")
        print(f"{call.ended}{f' at {call.at}' if call.at else ''}: {call.why}; {asked.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
