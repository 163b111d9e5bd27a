"""The next batch is launched before what came of the one before it is used; in order, and with its errors in place."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from recognition_checkpoints import RATE, TOKENS, noise, processor, talkative_model
from torch import Tensor

from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.transcripts import Hypothesis
from wav2vec2.inference import Transcriber
from wav2vec2.inference import transcriber as module
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.listener import Launched, Listener


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What happens, in order: batches that are launched and read, and searches that make texts of them."""
    happened: list[str] = []
    launch, read, decode = Listener.launch, Launched.read, CTCDecoder.decode
    numbers: dict[int, int] = {}

    def launched(listener: Listener, windows: list[Any]) -> Launched:
        found = launch(listener, windows)
        numbers[id(found)] = sum(name.startswith("launch") for name in happened)
        happened.append(f"launch {numbers[id(found)]}")
        return found

    def was_read(batch: Launched) -> list[Tensor]:
        happened.append(f"read {numbers[id(batch)]}")
        return read(batch)

    def texts(decoder: CTCDecoder, log_probs: Tensor, lengths: Sequence[int]) -> list[list[Hypothesis]]:
        happened.append("texts")
        return decode(decoder, log_probs, lengths)

    monkeypatch.setattr(Listener, "launch", launched)
    monkeypatch.setattr(Launched, "read", was_read)
    monkeypatch.setattr(CTCDecoder, "decode", texts)
    yield happened


def small_batches(beam: int = 4) -> Transcriber:
    """A recording of up to ten seconds fills a batch."""
    return Transcriber(talkative_model(), processor(), CTCDecoder(TOKENS, beam=beam), 10, 2, batch_seconds=1)


def inputs(count: int, seconds: float = 8.0) -> list[AudioInput]:
    return [AudioInput(str(number), noise(seconds, number), RATE) for number in range(count)]


def test_a_cpu_launches_the_next_four_batches_first(events: list[str]) -> None:
    """Four are sorted and decoded together: the first of the next four is launched before."""
    transcripts = list(small_batches().transcribe_each(inputs(9)))
    assert [one.path for one in transcripts] == [str(number) for number in range(9)]
    names = [name for name in events if name == "texts" or name.startswith("launch")]
    once = [name for number, name in enumerate(names) if name != "texts" or names[number - 1] != "texts"]
    batches = [f"launch {number}" for number in range(9)]
    # five recordings of 8 s make the 40 s of four batches
    assert once == [*batches[:6], "texts", *batches[6:], "texts"]


def test_an_accelerator_launches_the_next_batch_before_the_texts_of_each(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more than one batch further, and no batch is read before the next is launched."""
    transcriber = small_batches()
    monkeypatch.setattr(module, "_decodes_every_batch", lambda device: True)
    transcripts = list(transcriber.transcribe_each(inputs(7)))
    assert [one.path for one in transcripts] == [str(number) for number in range(7)]
    expected = ["launch 0"]
    for number in range(7):
        expected += [f"launch {number + 1}"] if number < 6 else []
        expected += [f"read {number}", "texts"]
    assert events == expected


@pytest.mark.slow
def test_texts_do_not_depend_on_how_many_batches_are_decoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long recordings in several segments, between short ones; on a GPU segments are decoded with others."""
    mixed = [*inputs(2), *inputs(1, 64.0), *inputs(2, 3.0)]
    expected = list(small_batches(2).transcribe_each(mixed, "char"))
    monkeypatch.setattr(module, "_decodes_every_batch", lambda device: True)
    assert list(small_batches(2).transcribe_each(mixed, "char")) == expected
    monkeypatch.setattr(CTCDecoder, "is_one_kernel_on", lambda decoder, device: True)
    for cells in (1 << 25, 20_000):
        monkeypatch.setattr(module, "_MOST_CELLS", cells)
        assert list(small_batches(2).transcribe_each(mixed, "char")) == expected


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=["fault", "stop"])
def test_what_was_computed_before_an_error_counts(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    launch, calls = Listener.launch, []

    def fails(listener: Listener, windows: list[Any]) -> Launched:
        calls.append(len(windows))
        if len(calls) == 4:
            raise error
        return launch(listener, windows)

    monkeypatch.setattr(Listener, "launch", fails)
    monkeypatch.setattr(module, "_decodes_every_batch", lambda device: True)
    found: list[str] = []
    advanced: list[float] = []
    with pytest.raises(type(error)) as raised:
        for transcript in small_batches().transcribe_each(inputs(6), progress=advanced.append):
            found.append(transcript.path)
    assert raised.value is error
    assert found == ["0", "1", "2"]
    assert advanced == pytest.approx([8.0] * 3, abs=0.03)
    assert len(calls) == 4


def test_a_search_that_is_one_kernel_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels can be built, the beam is no larger than they hold and the frames have few columns."""
    from wav2vec2.decoding import ctc_decoder

    gpu = torch.device("cuda")
    monkeypatch.setattr(ctc_decoder, "usable", lambda device: device.type == "cuda")
    assert CTCDecoder(TOKENS, beam=512).is_one_kernel_on(gpu)
    assert not CTCDecoder(TOKENS, beam=512).is_one_kernel_on(torch.device("cpu"))
    assert not CTCDecoder(TOKENS, beam=513).is_one_kernel_on(gpu)
    many = [*TOKENS, *map(str, range(30))]
    assert CTCDecoder(many, candidates=28).is_one_kernel_on(gpu)
    assert not CTCDecoder(many, candidates=29).is_one_kernel_on(gpu)
