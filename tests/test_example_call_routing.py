"""`examples/call_routing`: every call ends, in a defined way, whatever callers, line and recogniser do."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_checkpoints import processor, save_checkpoint, talkative_model
from served_models import served

from wav2vec2 import StreamingRecogniser, Transcriber

FOLDER = Path(__file__).parents[1] / "examples" / "call_routing"
sys.path.insert(0, str(FOLDER))

import router as program  # noqa: E402
from caller import ELSEWHERE, SimulatedCaller, plan_of  # noqa: E402
from dialogue import DialogueError, read_dialogue  # noqa: E402
from recognisers import HeardWord, Model, RecogniserLostError, VoskService  # noqa: E402
from router import Call, Recordings, Router, in_time, matched, recording  # noqa: E402
from simulate import results, wilson  # noqa: E402
from telephone import RATE, from_mu_law, over_the_line, to_mu_law  # noqa: E402
from voices import CALLERS, CHOSEN_BY, TRAINED_ON, people, spoken  # noqa: E402

DIALOGUE = read_dialogue(FOLDER / "dialogue.yaml")
TEXT = (FOLDER / "dialogue.yaml").read_text(encoding="utf-8")


def test_mu_law_is_that_of_libsndfile(tmp_path: Path) -> None:
    """Every code is read as there, a file has the same samples as its bytes, and samples are written as there."""
    codes = bytes(range(256))
    soundfile.write(tmp_path / "a.wav", np.zeros(256, np.int16), RATE, subtype="ULAW")
    file = (tmp_path / "a.wav").read_bytes()
    start = file.index(b"data") + 8
    (tmp_path / "a.wav").write_bytes(file[:start] + codes + file[start + 256 :])
    theirs, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == RATE
    np.testing.assert_array_equal(from_mu_law(codes), theirs)
    (tmp_path / "a.ul").write_bytes(codes)
    np.testing.assert_array_equal(recording(tmp_path / "a.ul"), theirs)
    samples = np.arange(-32768, 32768, 4).astype(np.int16)  # G.711 knows 14 bits
    soundfile.write(tmp_path / "b.wav", samples, RATE, subtype="ULAW")
    np.testing.assert_array_equal(from_mu_law(to_mu_law(samples)), soundfile.read(tmp_path / "b.wav", dtype="int16")[0])


def test_the_line_has_the_noise_and_the_band_that_were_asked_for() -> None:
    seconds = np.arange(16_000) / 16_000
    speech = (0.2 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.float32)
    clean = over_the_line(speech, 16_000, None, np.random.default_rng(0)).astype(float)
    for snr in (10.0, 20.0):
        noisy = over_the_line(speech, 16_000, snr, np.random.default_rng(0), (0.5, 0.5)).astype(float)[4000:12000]
        measured = 20 * np.log10(clean.std() / (noisy - clean).std())
        assert measured == pytest.approx(snr, abs=0.3)
    hum = over_the_line(
        (0.2 * np.sin(2 * np.pi * 60 * seconds)).astype(np.float32), 16_000, None, np.random.default_rng(0)
    )
    assert np.abs(hum).max() < 0.01 * 0.2 * 0x7FFF


def test_nobody_calls_whose_throat_was_trained_on() -> None:
    throats = [{voice.throat for voice in group} for group in (TRAINED_ON, CHOSEN_BY, CALLERS)]
    assert sum(map(len, throats)) == len(set.union(*throats))
    trained = {*" ".join(DIALOGUE.phrases()).split()}
    assert all(not {*text.split()} <= trained for text in ELSEWHERE)


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("to: payments", "to: payment", "'payment' is no question and no destination: did you mean payments?"),
        ("start: main", "start: mane", "start: is no question: did you mean main?"),
        ("[bill, my bill", "[bill, my bill 24", "'my bill 24' has '24', which the recogniser has no letter for"),
        ("[bill, my bill", "[bill, contract", "'contract' leads to 'bill' and to 'contract'"),
        ("[bill, my bill", "['bill ', my bill", "write words with one blank between them"),
        ("phrases: [gas, the gas, it smells of gas]", "phrases: []", "has no phrase"),
        ("sure: 0.9 ", "sure: 0.4 ", "doubtful is 0.5, which must be at most sure, 0.4"),
        ("repeats: 2", "repeats: many", "must be a whole number"),
        ("patience: 5.0", "patients: 5.0", "is not known: did you mean patience?"),
        ("Did you say: {phrase}?", "Pardon?", "must have {phrase} where the answer stands"),
        ("heating, moving,", "heating, sauna, moving,", "no answer leads to 'sauna'"),
        ("      - to: contract\n", "      - to: fault\n", "no answer leads to 'contract'"),
        ("most_turns: 12", "most_turns: 12\nmost_turns: 13", "line 5: 'most_turns' stands twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_dialogue_is_said(tmp_path: Path, was: str, becomes: str, told: str) -> None:
    assert TEXT.count(was) >= 1
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TEXT.replace(was, becomes, 1), encoding="utf-8")
    with pytest.raises(DialogueError) as error:
        read_dialogue(wrong)
    assert told in str(error.value) and str(error.value).startswith(f"{wrong}")


def test_a_question_that_cannot_be_left(tmp_path: Path) -> None:
    """Answers that lead from a question to itself, or round and round, though some words lead away from everywhere."""
    wrong = tmp_path / "wrong.yaml"
    tied = TEXT
    for place in ("electricity", "gas", "heating"):
        tied = tied.replace(f"      - to: {place}\n", "      - to: fault\n")
    wrong.write_text(tied, encoding="utf-8")
    with pytest.raises(DialogueError, match="'fault' cannot be left: no answers lead from it to a destination"):
        read_dialogue(wrong)


class Ear:
    """Hears what it is told to, whatever comes."""

    def __init__(self, words: list[HeardWord] | None, packets: int, noisy: bool = False, lost: bool = False) -> None:
        self._words, self._left, self.has_words, self._lost = words, packets, noisy, lost

    def hear(self, packet: bytes) -> list[HeardWord] | None:
        self._left -= 1
        if self._left <= 0 and self._lost:
            raise RecogniserLostError("gone")
        return self._words if self._left <= 0 else None

    def finish(self) -> list[HeardWord]:
        return []

    def close(self) -> None:
        pass


class Fate:
    """Line and recogniser of which chance disposes: words with any confidence, silence, noise without end, a caller who
    hangs up or a line that breaks, a recogniser that is lost."""

    def __init__(self, draw: Any, kinds: Sequence[str]) -> None:
        self._draw, self._kinds = draw, kinds

    def listen_for(self, phrases: Sequence[str]) -> Ear:
        self.kind = self._draw(st.sampled_from(self._kinds))
        if self.kind == "lost":
            return Ear(None, self._draw(st.integers(1, 5)), lost=True)
        if self.kind in ("silence", "noise"):
            return Ear(None, 10**9, noisy=self.kind == "noise")
        said = [
            *self._draw(st.sampled_from([*phrases, "[unk]"])).split(),
            *self._draw(st.sampled_from([[], ["[unk]"]])),
        ]
        words = [HeardWord(word, self._draw(st.sampled_from([0.1, 0.6, 0.85, 1.0]))) for word in said]
        return Ear(words, self._draw(st.integers(1, 9)))

    def say(self, text: str) -> None:
        assert text

    def packets(self) -> Iterator[bytes]:
        for number in range(10_000):
            if self.kind == "hangs up" and number == 2:
                return
            if self.kind == "breaks" and number == 2:
                raise OSError("no carrier")
            yield bytes(3200)


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_every_call_ends_as_the_dialogue_says(data: st.DataObject) -> None:
    """Over random callers: within the questions and seconds there are, and at a destination only by answers that were
    sure, or confirmed."""
    every = ["words", "words", "words", "silence", "noise", "hangs up", "breaks", "lost"]
    kinds = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=6))
    fate = Fate(data.draw, kinds)
    call = Router(DIALOGUE, fate).lead(fate)
    assert 0 <= len(call.turns) <= DIALOGUE.most_turns
    assert all(turn.seconds <= DIALOGUE.listening.longest + 0.2 for turn in call.turns)
    assert all(turn.ended_by != "silence" or turn.seconds <= DIALOGUE.listening.patience + 0.2 for turn in call.turns)
    if call.ended == "arrived":
        assert call.at in DIALOGUE.destinations
        *_, last = call.turns
        assert last.decision == f"go to {call.at}"
        if last.kind == "confirmation":
            asked = call.turns[-2]
            assert (last.understood, asked.understood) == ("agreed", call.at) and asked.decision == "confirm"
        else:
            rules = DIALOGUE.rules(DIALOGUE.question(last.question))
            assert last.understood == call.at and last.confidence >= rules.sure
    elif call.ended == "operator":
        assert call.at == "operator" and call.why
    else:
        assert call.at is None and {*kinds} & {"hangs up", "breaks"}
    json.dumps(asdict(call), allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "ended", "why", "turns"),
    [
        ("silence", "operator", "main: not understood 3 times", 3),
        ("noise", "operator", "main: not understood 3 times", 3),
        ("hangs up", "hung up", "main: the caller hung up", 1),
        ("breaks", "hung up", "main: the caller hung up", 1),
        ("lost", "operator", "recogniser lost: gone", 0),
    ],
)
def test_what_goes_wrong_has_its_end(kind: str, ended: str, why: str, turns: int) -> None:
    class Fixed(Fate):
        def listen_for(self, phrases: Sequence[str]) -> Ear:
            self.kind = kind
            return Ear(None, 2 if kind == "lost" else 10**9, noisy=kind == "noise", lost=kind == "lost")

    fate = Fixed(None, [])
    call = Router(DIALOGUE, fate).lead(fate)
    assert (call.ended, call.why, len(call.turns)) == (ended, why, turns)


def test_round_and_round_is_an_end_too() -> None:
    """Somebody who says "my bill" and "main menu" for ever."""

    class Turning(Fate):
        def listen_for(self, phrases: Sequence[str]) -> Ear:
            self.kind = "words"
            said = "my bill" if "my bill" in phrases else "main menu"
            return Ear([HeardWord(word, 1.0) for word in said.split()], 1)

    fate = Turning(None, [])
    call = Router(DIALOGUE, fate).lead(fate)
    assert (call.ended, call.why, len(call.turns)) == ("operator", "more than 12 questions", 12)


def test_a_line_that_stalls_has_ended() -> None:
    def stalled() -> Iterator[bytes]:
        yield b"first"
        threading.Event().wait(20)

    began = time.monotonic()
    assert list(in_time(stalled(), 0.1)) == [b"first"]
    assert time.monotonic() - began < 5


def test_the_longest_phrase_counts_and_two_places_are_none() -> None:
    answers = DIALOGUE.answers(DIALOGUE.question("bill"))

    def of(text: str, *confidences: float) -> tuple[str | None, Any]:
        words = [HeardWord(word, sure) for word, sure in zip(text.split(), confidences, strict=True)]
        answer, _, confidence = matched(words, answers)
        return answer.to if answer else None, confidence

    assert of("pay the bill", 0.9, 0.6, 0.9) == ("payments", pytest.approx(0.8))
    assert of("[unk] pay", 0.9, 0.8) == ("payments", pytest.approx(0.4))  # half of it was not expected
    assert of("pay bank account", 1, 1, 1) == (None, 0.0)
    assert of("the", 1) == (None, 0.0)
    assert of("") == (None, 0.0)


class Scripted:
    """Hears what a simulated caller says: "[unk]" where it was not expected, and a share of it wrongly."""

    def __init__(self, caller: SimulatedCaller, misheard: float, seed: int) -> None:
        self._caller, self._misheard, self._chance = caller, misheard, np.random.default_rng(seed)

    def listen_for(self, phrases: Sequence[str]) -> Ear:
        text = self._caller.said[-1] if self._caller.said[-1] in phrases else "[unk]"
        if self._chance.uniform() < self._misheard:
            return Ear([HeardWord("[unk]", 0.9)], 5)
        return Ear([HeardWord(word, self._chance.choice([0.7, 0.95])) for word in text.split()], 5)


def simulated(wanted: str | None, misheard: float, seed: int) -> Call:
    plan = plan_of(DIALOGUE, CALLERS[seed % len(CALLERS)], wanted, seed)
    speech = {text: np.zeros(1600, np.float32) for text in plan.texts()}
    caller = SimulatedCaller(DIALOGUE, plan, speech, None, seed)
    return Router(DIALOGUE, Scripted(caller, misheard, seed)).lead(caller)


@pytest.mark.parametrize("wanted", DIALOGUE.destinations)
def test_whoever_is_heard_arrives(wanted: str) -> None:
    """Doubtful answers among them, which are confirmed; half misheard, no caller is sent elsewhere."""
    for seed in range(4):
        assert simulated(wanted, 0.0, seed).at == wanted
        assert simulated(wanted, 0.5, seed).at in (wanted, "operator")


def test_who_wants_something_else_comes_to_a_person() -> None:
    for seed in range(6):
        call = simulated(None, 0.0, seed)
        assert (call.ended, call.at, len(call.turns)) == ("operator", "operator", 3)


def test_intervals_are_those_that_were_published() -> None:
    """Newcombe (1998), table I, method 3; and the table of the results counts."""
    for count, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert list(wilson(count, of)) == pytest.approx([low, high], abs=5e-5)
    call = {"line": "clean", "wanted": "gas", "turns": [1, 2], "seconds": 4.0, "voice": "en+m1"}
    (row,) = results([call | {"became": became} for became in ("right", "right", "wrong", "operator")])
    assert [row[name]["count"] for name in ("right", "operator", "wrong")] == [2, 1, 1]
    assert (row["mean_turns"], row["longest_seconds"]) == (2, 4.0)


@pytest.mark.slow
def test_over_a_service(tmp_path: Path) -> None:
    """A model that knows nothing behind the Vosk protocol, a synthetic caller on a noisy line: nobody is sent anywhere.
    A service that does not answer, or is not there, is an end."""
    voice = next(people(CALLERS))
    few = replace(plan_of(DIALOGUE, voice, "gas", 1), answers={"main": ["power cut"]})
    (clips,) = spoken([(voice, few.texts())])
    speech = dict(zip(few.texts(), clips, strict=True))
    with served(Transcriber(talkative_model(), processor()), latency=0.96) as running:
        place = running.address.replace("http", "ws") + "/vosk"
        caller = SimulatedCaller(DIALOGUE, few, speech, 20.0, 1)
        call = Router(DIALOGUE, VoskService(place)).lead(caller)
    assert (call.ended, call.at) == ("operator", "operator") and len(call.turns) == 3
    assert caller.said == ["power cut"] * 3 and not call.why.startswith("recogniser lost")
    gone = Router(DIALOGUE, VoskService(place)).lead(caller)
    assert gone.ended == "operator" and gone.why.startswith("recogniser lost: ws://127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = VoskService(f"ws://127.0.0.1:{mute.getsockname()[1]}", answer_seconds=0.5)
        assert Router(DIALOGUE, silent).lead(caller).why.startswith("recogniser lost")
    inside = Model(StreamingRecogniser(talkative_model(), processor(), latency=0.96))
    sound = over_the_line(speech["power cut"], 16_000, 20.0, np.random.default_rng(1))
    soundfile.write(tmp_path / "one.wav", sound, RATE, subtype="ULAW")
    told = Router(DIALOGUE, inside).lead(Recordings([tmp_path / "one.wav"]))
    assert told.ended == "hung up" and len(told.turns) == 2


def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What a user can get wrong is one line and exit code 1; letters that a model lacks are said before the call."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["router.py", *arguments])
        return program.main()

    assert run("--check") == 0
    assert "4 questions, 58 phrases" in capsys.readouterr().out
    assert run("--check", "--dialogue", str(tmp_path / "none.yaml")) == 1
    assert "none.yaml" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    model = save_checkpoint(tmp_path / "model")  # which has the letters a to h
    capsys.readouterr()
    assert run("--model", str(model)) == 1
    assert "'operator' has 'oprt', which the recogniser has no letter for" in capsys.readouterr().err
