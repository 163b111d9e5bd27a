"""Attention in chunks: a stream with cached keys and values computes what the mask does, and looks no further ahead.

Shapes: B batch, H heads, T frames, C channels, D head size.
"""

from typing import Any

import pytest
import torch
from small_models import CALM, small_config
from stock_twins import scatter_weights, twins
from torch import Tensor

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model
from wav2vec2.configuration.frame_arithmetic import conv_output_length
from wav2vec2.modeling.attention_in_chunks import ChunkPlaces, Chunks

#: Chunks of many kinds, for clips of some 30 frames.
KINDS = [
    Chunks(size=4),
    Chunks(size=4, left=0),
    Chunks(size=4, left=6, sinks=2),
    Chunks(size=5, left=7, right=3),
    Chunks(size=3, left=4, right=5, sinks=6),
    Chunks(size=1, left=9, right=1, sinks=1),
    Chunks(size=8, left=None, right=2, sinks=3),
]
ARCHITECTURES = ["base", "large_lv60k"]

#: Frames of the clips in a batch.
FRAMES = [31, 20, 9, 1]


def as_fields(chunks: Chunks) -> dict[str, Any]:
    """Chunks as a configuration has them."""
    return {f"attention_{'chunk' if name == 'size' else name}": value for name, value in chunks._asdict().items()}


def model_of(architecture: str, chunks: Chunks, **more: Any) -> Any:
    """A small model with random weights."""
    torch.manual_seed(0)
    model = Wav2Vec2Model(small_config(architecture, **as_fields(chunks), **more))
    return scatter_weights(model).eval()


def features(frames: int, seed: int = 0) -> Tensor:
    """(1, T, C)"""
    return torch.randn(1, frames, 48, generator=torch.Generator().manual_seed(seed))


def softmax_of_all(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(H, n, D) over (H, m, D)."""
    scores = query @ keys.transpose(1, 2) / query.shape[-1] ** 0.5
    output: Tensor = scores.softmax(-1) @ values
    return output


def streamed(encoder: Any, x: Tensor, chunks: Chunks) -> Tensor:
    """The encoder on one clip (1, T, C) as a stream would run it: chunk by chunk, the keys and values of every layer
    kept of frames that were done, and of what comes nothing but the look-ahead. No mask anywhere."""
    assert chunks.size is not None
    frames, conv = x.shape[1], encoder.pos_conv_embed.conv
    cache: list[dict[int, tuple[Tensor, Tensor]]] = [{} for _ in encoder.layers]
    done = []
    for begin in range(0, frames, chunks.size):
        end = min(begin + chunks.size, frames)
        heard = x[:, : min(end + chunks.right, frames)]  # of the rest the stream knows nothing
        positions = encoder.pos_conv_embed.activation(conv(heard))
        state = (heard + positions)[:, begin:]
        state = state if encoder.config.do_stable_layer_norm else encoder.layer_norm(state)
        for layer, kept in zip(encoder.layers, cache, strict=True):
            state = streamed_layer(layer, state, kept, begin, end, chunks)
        state = encoder.layer_norm(state) if encoder.config.do_stable_layer_norm else state
        done.append(state[:, : end - begin])
    return torch.cat(done, 1)


def streamed_layer(
    layer: Any, x: Tensor, kept: dict[int, tuple[Tensor, Tensor]], begin: int, end: int, chunks: Chunks
) -> Tensor:
    """One layer on a chunk and its look-ahead (1, n, C). What the chunk leaves behind goes into `kept`, by frame."""
    attention = layer.attention
    heads = attention.num_heads

    def split(y: Tensor) -> Tensor:  # (1, n, C) -> (H, n, D)
        return y[0].view(y.shape[1], heads, -1).transpose(0, 1)

    y = layer.layer_norm(x) if layer.pre_norm else x
    query, key, value = split(attention.q_proj(y)), split(attention.k_proj(y)), split(attention.v_proj(y))
    oldest = 0 if chunks.left is None else begin - chunks.left
    past = [pair for frame, pair in sorted(kept.items()) if frame >= oldest or frame < chunks.sinks]
    keys = torch.cat([*(pair[0] for pair in past), key], 1)
    values = torch.cat([*(pair[1] for pair in past), value], 1)
    attended = attention.out_proj(softmax_of_all(query, keys, values).transpose(0, 1).flatten(1)[None])
    for frame in range(begin, end):  # the look-ahead is forgotten
        kept[frame] = key[:, [frame - begin]], value[:, [frame - begin]]
    output: Tensor
    if layer.pre_norm:
        x = x + attended
        output = x + layer.feed_forward(layer.final_layer_norm(x))
    else:
        x = layer.layer_norm(x + attended)
        output = layer.final_layer_norm(x + layer.feed_forward(x))
    return output


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("chunks", KINDS, ids=str)
@torch.no_grad()
def test_a_stream_with_a_cache_computes_what_the_mask_does(architecture: str, chunks: Chunks) -> None:
    """Padded batches included: each clip as if it were alone."""
    encoder = model_of(architecture, chunks).encoder
    clips = [features(count, seed) for seed, count in enumerate(FRAMES)]
    padded = torch.full((len(FRAMES), max(FRAMES), 48), 1e3)
    for row, clip in zip(padded, clips, strict=True):
        row[: clip.shape[1]] = clip[0]
    mask = torch.arange(max(FRAMES)) < torch.tensor(FRAMES)[:, None]
    for implementation in ("eager", "sdpa"):
        encoder.config._attn_implementation = implementation
        together = encoder(padded, mask).hidden_states
        for row, clip in zip(together, clips, strict=True):
            expected = streamed(encoder, clip, chunks)
            count = clip.shape[1]
            assert torch.allclose(row[:count], expected[0], rtol=0, atol=1e-5 * expected.abs().max().item())
            alone = encoder(clip).hidden_states
            assert torch.allclose(alone, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("chunks", KINDS, ids=str)
@torch.no_grad()
def test_nothing_later_than_the_look_ahead_is_heard(chunks: Chunks) -> None:
    """However many layers there are. And all that may be heard is."""
    assert chunks.size is not None
    encoder = model_of("large_lv60k", chunks, num_hidden_layers=6).encoder
    x = features(31)
    before = encoder(x).hidden_states
    for frame in range(31):
        changed = x.clone()
        changed[:, frame:] += 10 * features(31 - frame, seed=1)
        same = (encoder(changed).hidden_states == before).all(-1)[0]
        first = next(begin for begin in range(0, 31, chunks.size) if begin + chunks.size + chunks.right > frame)
        assert same[:first].all(), frame
        assert not same[first], frame


@torch.no_grad()
def test_audio_beyond_the_latency_changes_nothing() -> None:
    """The same from the waveform on, where no norm is taken over the clip."""
    chunks = Chunks(size=4, left=8, right=2, sinks=1)
    torch.manual_seed(0)
    model: Any = scatter_weights(Wav2Vec2ForCTC(small_config("large_lv60k", **as_fields(chunks)))).eval()
    audio = torch.randn(1, 16_000)
    heard = 12 + chunks.right  # frames, of which the first 12 are three chunks
    samples = 400 + 320 * (heard - 1)
    changed = torch.cat([audio[:, :samples], torch.randn(1, 16_000 - samples)], 1)
    before, after = model(audio).logits, model(changed).logits
    assert torch.equal(before[:, :12], after[:, :12]) and not torch.equal(before, after)
    full = Wav2Vec2ForCTC.from_pretrained(
        None, config=small_config("large_lv60k"), state_dict=model.state_dict()
    ).eval()
    assert not torch.equal(full(audio).logits[:, :12], full(changed).logits[:, :12])


@pytest.mark.parametrize("variant", ["base", "large_lv60k"])
@pytest.mark.parametrize("head", ["Wav2Vec2Model", "Wav2Vec2ForCTC"])
@torch.no_grad()
def test_a_chunk_of_the_whole_clip_is_stock(head: str, variant: str) -> None:
    """With look-ahead, sinks and left context that have nothing to do."""
    whole = {"attention_chunk": 18, "attention_left": 3, "attention_right": 5, "attention_sinks": 2}
    stock, ours = twins(head, variant, attention="eager", own_fields=whole)
    audio = torch.randn(3, 6000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert conv_output_length(6000, ours.config.conv_kernel, ours.config.conv_stride) == 18
    wanted = stock(audio, output_hidden_states=True, output_attentions=True)
    found = ours(audio, output_hidden_states=True, output_attentions=True)
    for one, other in zip(wanted.hidden_states, found.hidden_states, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-9 * one.abs().max().item())
    for one, other in zip(wanted.attentions, found.attentions, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-9)
    ours.config.attention_chunk = 9
    assert not torch.allclose(ours(audio)[0], stock(audio)[0], atol=1e-3), "chunks that are smaller change something"


@torch.no_grad()
def test_weights_and_states_are_those_of_frames() -> None:
    """Of copies nothing is told but how much they were attended to, at the frame that they are copies of."""
    chunks = Chunks(size=4, left=5, right=3, sinks=1)
    model = model_of("base", chunks)
    outputs = model(torch.randn(2, 6000), output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(2, 18, 48)] * 4
    assert torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)
    frame = torch.arange(18)
    begin = frame[:, None] // 4 * 4
    seen = ((frame >= begin - 5) | (frame < 1)) & (frame < begin + 4 + 3)
    for weights in outputs.attentions:
        assert weights.shape == (2, 4, 18, 18)
        assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 18), atol=1e-5)
        assert torch.equal(weights > 0, seen.expand_as(weights))


def test_places_by_hand() -> None:
    """The example of the file."""
    places = ChunkPlaces(Chunks(2, left=1, right=1, sinks=1), 2, 5, torch.device("cpu"))
    assert places.there.int().tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert places.frame.tolist()[:7] == [0, 1, 2, 2, 3, 4, 4]
    assert places.start.tolist() == [0, 0, 0, 2, 2, 2, 4, 4, 4]
    assert places.own.tolist() == [0, 1, 3, 4, 6]
    assert places.visible(None)[0, 0, :7].int().tolist() == [
        [1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 1, 0, 0, 0],
        [1, 0, 0, 0, 1, 0, 1, 0, 0],
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_those_of_the_stream(architecture: str) -> None:
    """Of every parameter of it, through copies, caches and the cut positional convolution; in a padded batch."""
    chunks = Chunks(size=5, left=7, right=3, sinks=2)
    encoder = model_of(architecture, chunks).encoder.double()
    clips = [features(count, seed).double() for seed, count in enumerate((23, 12))]
    padded = torch.cat([clips[0], torch.cat([clips[1], torch.full((1, 11, 48), 1e3)], 1)])
    mask = torch.arange(23) < torch.tensor([[23], [12]])

    def gradients(outputs: list[Tensor]) -> list[Tensor]:
        loss = torch.stack([output.sin().sum() for output in outputs]).sum()
        return list(torch.autograd.grad(loss, list(encoder.parameters())))

    rows = encoder(padded, mask).hidden_states
    found = gradients([rows[0], rows[1, :12]])
    wanted = gradients([streamed(encoder, clip, chunks) for clip in clips])
    largest = max(gradient.abs().max().item() for gradient in wanted)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-9 * largest)


def test_training_sees_what_was_drawn_and_evaluation_what_is_configured() -> None:
    """Whatever the head; and None is the configuration again."""
    torch.manual_seed(0)
    model: Any = Wav2Vec2ForPreTraining(small_config("base", **CALM))
    audio, no_mask = torch.randn(1, 6000), torch.zeros(1, 18, dtype=torch.bool)

    def states() -> Tensor:
        torch.manual_seed(0)
        output: Tensor = model(audio, mask_time_indices=no_mask).projected_states
        return output.detach()

    model.train()
    everything = states()
    model.see_in_training(Chunks(size=4))
    in_chunks = states()
    assert not torch.allclose(in_chunks, everything, atol=1e-3)
    assert torch.allclose(model.eval() and states(), everything, atol=1e-6)
    model.train().see_in_training(None)
    assert torch.equal(states(), everything)
    model.config.attention_chunk = 4
    assert torch.equal(states(), in_chunks)
    model.see_in_training(Chunks())
    assert torch.equal(states(), everything), "that all see all can be drawn as well"


def test_an_attention_without_such_masks_is_refused() -> None:
    model = model_of("base", Chunks(size=4))
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(
        ValueError, match=r"'flex_attention': attention in chunks is there for 'sdpa' and 'eager' alone"
    ):
        model(torch.randn(1, 6000))


def test_an_export_is_refused() -> None:
    """The number of chunks would be that of the example."""
    with pytest.raises(ValueError, match="attention_chunk=4: a program that is exported hears whole clips"):
        torch.export.export(model_of("base", Chunks(size=4)), (torch.randn(1, 6000),))
