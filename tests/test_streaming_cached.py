"""Streams of a model that was tuned in chunks: with keys and values that are kept, what the masked clip gives."""

from typing import Any

import numpy as np
import pytest
import torch
from recognition_checkpoints import RATE, noise, processor, talkative_model
from torch import Tensor

from wav2vec2 import StreamingRecogniser, Transcriber, Transcript
from wav2vec2.modeling.convolved_clips import ConvolvedClips

ARCHITECTURES = ("large_lv60k", "base", "layer_norm_post_norm")

#: Latency, block and left context in seconds, and sinks.
KINDS: list[tuple[float, float | None, float | None, int]] = [
    (0.48, None, 0.5, 0),
    (0.48, None, 0.2, 3),
    (0.3, 0.06, 0.4, 1),
    (0.96, 0.96, 0.0, 2),
    (1.2, 0.5, None, 0),
]


def tuned(architecture: str, left: int | None, sinks: int) -> Any:
    """A model whose configuration says that it was tuned in chunks."""
    return talkative_model(architecture, tuned_in_chunks=True, attention_left=left, attention_sinks=sinks)


class Recorded:
    """What a stream computes: the features that it hears, and the log-probabilities that become final."""

    def __init__(self, stream: Any) -> None:
        self.features: list[Tensor] = []
        self.final: list[Tensor] = []
        hear, add = stream.state.hear, stream.state.text.add

        def hearing(chunk: Any, features: Tensor) -> None:
            self.features.append(features)
            hear(chunk, features)

        def adding(log_probs: Tensor, ahead: Tensor) -> Any:
            self.final.append(log_probs)
            return add(log_probs, ahead)

        stream.state.hear, stream.state.text.add = hearing, adding

    def masked(self, model: Any) -> Tensor:
        """What the model says of the features as one clip."""
        features = torch.cat(self.features)[None]
        samples = (features.shape[1] - 1) * 320 + 400
        with torch.inference_mode():
            logits = model(ConvolvedClips(features, torch.tensor([samples]), samples)).logits
        output: Tensor = logits[0].log_softmax(-1)
        return output


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_the_recogniser_runs_is_the_masked_clip(architecture: str, kind: Any) -> None:
    """To 1e-5 of the largest, for streams of several lengths that share batches, up to their last frame."""
    latency, block, seconds, sinks = kind
    model = tuned(architecture, None if seconds is None else round(seconds * 50), sinks)
    live = StreamingRecogniser(model, processor(), latency=latency, block=block, endpoint=None)
    recordings = [noise(length, seed=number) for number, length in enumerate((1.6, 0.87, 1.2, 0.03))]
    streams = [live.open() for _ in recordings]
    recorded = [Recorded(stream) for stream in streams]
    for begin in range(0, 25_600, 12_345):  # of which several blocks are due at once
        for stream, samples in zip(streams, recordings, strict=True):
            stream.push(samples[begin : begin + 12_345])
        while live.step():
            pass
    for stream in streams:
        stream.finish()
    model.config.attention_chunk, model.config.attention_right = live.look_ahead.block, live.look_ahead.right
    for one in recorded:
        found, expected = torch.cat(one.final), one.masked(model)
        assert len(found) == len(expected)
        assert torch.allclose(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    model.config.attention_chunk = None
    assert not torch.allclose(torch.cat(recorded[0].final), recorded[0].masked(model), atol=1e-2)


def test_live_is_offline_where_both_hear_in_the_same_chunks() -> None:
    """Words, times and confidences, of a model that needs no statistics of the clip."""
    model, by, samples = tuned("large_lv60k", 60, 2), processor(), 15 * noise(8.0, seed=2)
    by.feature_extractor.do_normalize = False
    live = StreamingRecogniser(model, by, latency=0.9, endpoint=None)
    stream = live.open()
    words = [word for update in (stream.feed(samples), stream.finish()) for word in update.final]
    model.config.attention_chunk, model.config.attention_right = live.look_ahead.block, live.look_ahead.right
    expected = Transcriber(model, by).transcribe((samples, RATE))
    assert isinstance(expected, Transcript)
    assert len(words) > 10
    assert [word.text for word in words] == [word.text for word in expected.words]
    for ours, theirs in zip(words, expected.words, strict=True):
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end), abs=1e-9)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)


def kept_frames(live: StreamingRecogniser) -> int:
    """Of how many frames keys are kept after 4 s."""
    stream = live.open()
    stream.feed(noise(4.0))
    assert stream.state.keys is not None
    return len(stream.state.keys.layers)


def test_how_far_it_looks_back_is_what_it_was_tuned_to() -> None:
    """Unless the caller says otherwise; and what is kept does not grow."""
    model = tuned("large_lv60k", 60, 2)
    choices: list[tuple[dict[str, Any], int]] = [({}, 62), ({"left_context": 0.5}, 27), ({"left_context": None}, 180)]
    for options, kept in choices:
        live = StreamingRecogniser(model, processor(), latency=0.6, block=0.2, endpoint=None, **options)
        assert kept_frames(live) == kept
    model.config.attention_left = None
    assert kept_frames(StreamingRecogniser(model, processor(), latency=0.6, block=0.2, endpoint=None)) == 180


def test_no_frame_but_the_right_context_is_computed_again() -> None:
    """The frames that the first layer is given, of a stream of 5 s: each once, and the right context of each block."""
    model = tuned("large_lv60k", 100, 0)
    live = StreamingRecogniser(model, processor(), latency=0.6, block=0.2, endpoint=None)
    given: list[int] = []
    model.wav2vec2.encoder.layers[0].register_forward_hook(
        lambda layer, inputs, output: given.append(inputs[0].shape[1])
    )
    stream = live.open()
    for packet in np.split(noise(5.0), 50):
        stream.feed(packet)
    stream.finish()
    blocks, rest = divmod(249, live.look_ahead.block)
    assert len(given) == blocks + (rest > 0)
    assert set(given[:20]) == {live.look_ahead.block + live.look_ahead.right}
    assert sum(given) < 249 + len(given) * live.look_ahead.right


def test_other_attention_is_refused() -> None:
    model = tuned("large_lv60k", 60, 0)
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(
        ValueError, match=r"'flex_attention': attention in chunks is there for 'sdpa' and 'eager' alone"
    ):
        StreamingRecogniser(model, processor(), latency=0.6, endpoint=None).open().feed(noise(2.0))
