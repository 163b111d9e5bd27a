"""A recurrent head for CTC: what it computes, how many frames it leaves and when they are, how it is loaded."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from recognition_checkpoints import RATE, noise, processor, save_checkpoint, talkative_model
from safetensors.torch import load_file, save_file
from small_models import CALM, small_config, waveforms
from torch import Tensor, nn

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining
from wav2vec2.alignment.aligned_words import align_words
from wav2vec2.alignment.frame_times import FrameTimes
from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.configuration.frame_arithmetic import logits_length
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.inference.audio_inputs import AudioInput
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.inference.transcript import Transcript
from wav2vec2.inference.windows_and_segments import Moments
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.modeling.random_draws import ClipDraws
from wav2vec2.modeling.recurrent_head import RecurrentHead
from wav2vec2.modeling.span_masking import draw_channel_mask, draw_time_mask
from wav2vec2.sharing.loading_check import LoadingError, check_loading
from wav2vec2.training.transformers_trainer import GreedyIds

RECURRENT: dict[str, Any] = {"ctc_head": "recurrent", "ctc_head_size": 20, "ctc_head_dropout": 0.0}

#: Frames of clips: none, fewer than the kernel, odd and even ones.
FRAMES = [11, 0, 1, 4, 12, 5]


def recurrent_model(**overrides: Any) -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    config = small_config(**(CALM | RECURRENT | {"mask_time_prob": 0.0} | overrides))
    model: Wav2Vec2ForCTC = Wav2Vec2ForCTC(config).eval()
    return model


def head_of(**overrides: Any) -> RecurrentHead:
    torch.manual_seed(0)
    head = RecurrentHead(Wav2Vec2Config(hidden_size=6, num_attention_heads=2, **(RECURRENT | overrides)))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return head.double()


def by_torch(head: RecurrentHead, clip: Tensor) -> Tensor:
    """One clip (T, H) through it, with torch's own bidirectional GRU."""
    x = (clip - clip.mean(0)) / (clip.var(0, correction=0) + 1e-5).sqrt()
    x = F.conv1d(x.T, head.convolution.weight, head.convolution.bias, stride=head.stride, padding=2).T
    x = F.gelu(F.layer_norm(x, x.shape[1:], head.layer_norm.weight, head.layer_norm.bias))
    for layer in head.layers:
        both = nn.GRU(x.shape[1], 20, bidirectional=True).double()
        for suffix, one in {"": layer.forwards, "_reverse": layer.backwards}.items():
            assert isinstance(one, nn.GRU)
            for name, weight in one.named_parameters():
                getattr(both, name + suffix).data.copy_(weight)
        x = both(x)[0]
    return x


# --- what it computes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "layers"), [(1, 1), (2, 2), (3, 2)])
def test_a_batch_is_each_clip_through_torch_s_own_layers(stride: int, layers: int) -> None:
    """Whatever stands in the padding, NaN included; and so are the gradients, of which padding gets none."""
    head = head_of(ctc_head_stride=stride, ctc_head_layers=layers)
    context = 3 + 2 * torch.randn(len(FRAMES), max(FRAMES), 6, dtype=torch.float64)
    for row, frames in zip(context, FRAMES, strict=True):
        row[frames:] = torch.nan
    context.requires_grad_()
    output = head(context, torch.tensor(FRAMES))
    kept = [-(-frames // stride) for frames in FRAMES]
    assert output.shape == (len(FRAMES), max(kept), 40)
    sums = []
    for row, clip, frames, length in zip(output, context.detach(), FRAMES, kept, strict=True):
        expected = by_torch(head, clip[:frames]) if frames else torch.zeros(0, 40)
        assert len(expected) == length
        torch.testing.assert_close(row[:length], expected.to(row.dtype), atol=1e-10, rtol=1e-10)
        sums.append(row[:length].sin().sum())
    (gradient,) = torch.autograd.grad(torch.stack(sums).sum(), context)
    for found, clip, frames in zip(gradient, context.detach(), FRAMES, strict=True):
        assert not found[frames:].any()
        if frames:
            alone = clip[:frames].clone().requires_grad_()
            (expected,) = torch.autograd.grad(head(alone[None], torch.tensor([frames]))[0].sin().sum(), alone)
            torch.testing.assert_close(found[:frames], expected, atol=1e-10, rtol=1e-10)


def test_how_loud_a_feature_is_and_where_it_lies_does_not_matter() -> None:
    head, context, lengths = head_of(), torch.randn(2, 9, 6, dtype=torch.float64), torch.tensor([9, 6])
    moved = context * torch.tensor([0.5, 2, 1, 1, 3, 7]) + torch.arange(6) * 10
    torch.testing.assert_close(head(moved, lengths), head(context, lengths), atol=1e-3, rtol=1e-3)


def test_dropout_is_drawn_in_training_alone() -> None:
    model = recurrent_model(ctc_head_dropout=0.4)
    values, _ = waveforms([6000])
    assert torch.equal(model(values).logits, model(values).logits)
    model.train()
    assert not torch.equal(model(values).logits, model(values).logits)


@pytest.mark.parametrize("training", [False, True])
def test_logits_loss_and_gradients_of_a_batch_are_those_of_its_clips(training: bool) -> None:
    lengths = [9000, 399, 5361, 400, 720]
    labels = torch.tensor([[1, 2, 2], [-100] * 3, [4, 5, 6], [3, -100, -100], [2, -100, -100]])
    model = recurrent_model(layerdrop=0.0, mask_time_prob=0.0).train(training)
    values, mask = waveforms(lengths)
    whole = model(values, mask, labels=labels)
    whole.loss.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = torch.zeros(())
    for row, length in enumerate(lengths):
        alone = model(values[row : row + 1, :length], labels=labels[row : row + 1])
        kept = alone.logits.shape[1]
        torch.testing.assert_close(whole.logits[row, :kept], alone.logits[0], atol=1e-5, rtol=1e-4)
        total = total + alone.loss
    total.backward()
    assert whole.loss.item() == pytest.approx(total.item(), rel=1e-5)
    assert any(name.startswith("recurrent_head.layers.1.backwards") for name in together)
    for name, parameter in model.named_parameters():
        if name in together and parameter.grad is not None:
            torch.testing.assert_close(together[name], parameter.grad, atol=1e-4, rtol=1e-3)


def test_it_computes_in_the_precision_of_its_weights() -> None:
    """Autocast leaves it alone; a model in 16 bits runs in them."""
    model, (values, mask) = recurrent_model(), waveforms([6000, 4000])
    head, context = model.recurrent_head, torch.randn(2, 9, 48)
    assert head is not None
    expected = head(context, torch.tensor([9, 5]))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(context, torch.tensor([9, 5])), expected)
        assert torch.isfinite(model(values, mask, labels=torch.tensor([[1, 2], [3, 4]])).loss)
    with torch.no_grad():
        logits = model(values, mask).logits
        halved = model.to(torch.bfloat16)(values.bfloat16(), mask).logits
    assert halved.dtype == torch.bfloat16
    torch.testing.assert_close(halved.float(), logits, atol=2e-2, rtol=5e-2)


MASKS: dict[str, Any] = {"ctc_head_masks": True, "mask_time_prob": 0.4, "mask_time_length": 3}
MASKS |= {"mask_feature_prob": 0.4, "mask_feature_length": 8}


def test_masks_fall_on_what_the_head_hears_and_not_on_the_transformer() -> None:
    """Those that the Transformer would have had; of zeros, the mean of every feature of a clip."""
    seeds, (values, mask) = torch.tensor([7, 8]), waveforms([9000, 5361])
    model = recurrent_model(**MASKS).train()
    head = model.recurrent_head
    assert head is not None
    heard: list[Tensor] = []
    head.convolution.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].transpose(1, 2)))
    lengths = model.wav2vec2.frame_lengths(values, mask)
    model(values, mask, clip_seeds=seeds)
    model.eval()(values, mask)
    masked, whole = heard
    draws = ClipDraws(seeds)
    frames = draw_time_mask(model.config, lengths, whole.shape[1], draws)
    channels = draw_channel_mask(model.config, 2, whole.device, draws)
    hidden = frames[:, :, None] | channels[:, None, :]
    assert frames.any(1).all() and channels.any(1).all() and not hidden.all()
    torch.testing.assert_close(masked, whole.masked_fill(hidden, 0.0), atol=1e-4, rtol=1e-4)


def test_a_clip_is_masked_alike_in_every_batch() -> None:
    values, mask = waveforms([9000, 5361, 700])
    seeds, model = torch.tensor([7, 8, 9]), recurrent_model(**MASKS).train()
    together = model(values, mask, clip_seeds=seeds).logits
    for row, length in enumerate((9000, 5361, 700)):
        alone = model(values[row : row + 1, :length], clip_seeds=seeds[row : row + 1]).logits[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-5, rtol=1e-4)
    assert not torch.equal(model(values, mask, clip_seeds=seeds + 1).logits, together)


def test_under_a_linear_head_masks_stay_where_they_are() -> None:
    model = Wav2Vec2ForCTC(small_config(**(CALM | MASKS))).train()
    values, _ = waveforms([9000])
    assert not torch.equal(model(values).logits, model(values).logits)


def test_a_held_encoder_gets_zeros_and_the_head_its_gradient() -> None:
    model, (values, mask) = recurrent_model().train(), waveforms([6000, 4000])
    model.hold_encoder()
    model(values, mask, labels=torch.tensor([[1, 2], [3, 4]])).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()) == (not name.startswith("wav2vec2.")), name


# --- how many frames, and when -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_everything_counts_the_same_frames(stride: int) -> None:
    model = recurrent_model(ctc_head_stride=stride, ctc_drop_infeasible=False)
    config = model.config
    times = FrameTimes(every=stride)
    assert config.inputs_to_logits_ratio == times.stride == 320 * stride
    lengths = [0, 1, 399, 400, 719, 720, 1039, 1040, 1360, 1680, 4321]
    with torch.no_grad():
        found = [model(torch.ones(1, n).cumsum(1).sin()).logits.shape[1] for n in lengths]
    body = [max(0, (n - 400) // 320 + 1) for n in lengths]
    assert found == [len(range(0, frames, stride)) for frames in body]
    assert [times.frames(n) for n in lengths] == [logits_length(n, config) for n in lengths] == found
    assert logits_length(np.array(lengths), config).tolist() == logits_length(torch.tensor(lengths), config).tolist()
    values, mask = waveforms(lengths)
    assert model.frame_lengths(values, mask).tolist() == found
    assert model.wav2vec2.frame_lengths(values, mask).tolist() == body
    assert model._get_feature_vector_attention_mask(max(found), mask).sum(1).tolist() == found
    for count, frames in zip(found, body, strict=True):
        assert times.duration(count) <= FrameTimes().duration(frames)
        if count:
            assert times.centre(count - 1) == FrameTimes().centre((count - 1) * stride)
            assert times.edge(count) == pytest.approx((times.centre(count - 1) + times.centre(count)) / 2)


def test_trainer_keeps_the_ids_of_real_frames() -> None:
    model, (values, mask) = recurrent_model(), waveforms([6000, 3000, 300])
    greedy = GreedyIds(model)
    with torch.no_grad():
        ids = greedy(model(input_values=values, attention_mask=mask).logits, torch.zeros(3, 1))
    assert (ids >= 0).sum(1).tolist() == model.frame_lengths(values, mask).tolist() == [9, 5, 0]


def test_words_are_where_every_frame_would_have_them() -> None:
    """Letters that last some frames: from every second of them, within half of a longer frame."""
    letters = ["<pad>", "|", *"abcd"]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    frames = torch.full((120, 6), -8.0)
    path = torch.zeros(120, dtype=torch.long)
    for number, place in enumerate(range(5, 115, 9)):
        path[place : place + 5] = [2, 3, 1][number % 3]
    frames[torch.arange(120), path] = 0.0
    log_probs, text = frames.log_softmax(-1), " ".join(["ab"] * 4)
    duration = FrameTimes().duration(120)
    every = align_words(log_probs, text, vocabulary, duration=duration)
    second = align_words(log_probs[::2], text, vocabulary, times=FrameTimes(every=2), duration=duration)
    assert len(every) == 4 and every[-1].end > 1.8
    for one, other in zip(every, second, strict=True):
        assert other.start == pytest.approx(one.start, abs=0.021)
        assert other.end == pytest.approx(one.end, abs=0.021)


class EverySecond(nn.Module):
    """Instead of the head: it hears no more than its frame, as no recurrent head does."""

    def forward(self, context: Tensor, lengths: Tensor, draws: object = None) -> Tensor:
        return context[:, ::2]


@pytest.mark.parametrize("cut", [(4.0, 1.0), (5.5, 0.9), (9.98, 2.0)])
def test_windows_are_cut_at_whole_frames_of_logits(cut: tuple[float, float]) -> None:
    """What comes of windows is every second frame of what the same model without a stride gives of the whole."""
    plain, strided = talkative_model(), talkative_model()
    for model in (plain, strided):
        model.wav2vec2.encoder.layers = nn.ModuleList()
    strided.config.ctc_head = "recurrent"
    setattr(strided, "recurrent_head", EverySecond())  # noqa: B010 (of another type)
    sound = noise(21.0)
    outputs = []
    for model, (window, context) in ((plain, (30.0, 4.0)), (strided, cut)):
        transcriber = Transcriber(model, processor(), None, window, context, batch_seconds=15)
        plan = transcriber.listener.plan.windows(AudioInput("noise", sound, RATE), Moments())
        outputs.append(torch.cat([rows for one in plan for rows in transcriber.listener.launch([one]).read()]))
    torch.testing.assert_close(outputs[1], outputs[0][::2], atol=1e-3, rtol=1e-3)
    assert transcriber.frame_times == FrameTimes(every=2) and transcriber.listener.plan.size % 640 == 0
    found = transcriber.transcribe((sound, RATE))
    assert isinstance(found, Transcript) and found.words and 18 < found.words[-1].end <= 21.0


def test_a_decoder_s_file_knows_the_stride(tmp_path: Path) -> None:
    """Without one it is as it was, so that earlier versions read it."""
    for every in (1, 2):
        folder = tmp_path / str(every)
        CTCDecoder(["<pad>", "|", "a"], frame_times=FrameTimes(every=every)).save_pretrained(folder)
        assert ('"every"' in (folder / "decoder.json").read_text(encoding="utf-8")) == (every == 2)
        assert CTCDecoder.from_pretrained(folder).frame_times.every == every


# --- how it is loaded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"add_adapter": True}, "add_adapter=True: must be False where ctc_head='recurrent'"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim=16: must be None where ctc_head='recurrent'"),
        ({"ctc_head_size": 24}, "ctc_head_size=24: must not be half of hidden_size=48"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options: dict[str, Any], message: str) -> None:
    """By the model; under a linear head all of it may be."""
    with pytest.raises(ValueError, match=message):
        Wav2Vec2ForCTC(small_config(**(RECURRENT | options)))
    assert Wav2Vec2ForCTC(small_config(**(RECURRENT | options | {"ctc_head": "linear"}))).recurrent_head is None


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "wav2vec2"]


def test_it_starts_as_torch_would_start_it() -> None:
    head = recurrent_model(ctc_head_size=64, hidden_size=48).recurrent_head
    assert head is not None
    for layer in head.layers:
        for parameter in layer.parameters():
            assert 0.118 < parameter.abs().max() <= 1 / 64**0.5
            assert parameter.std().item() == pytest.approx(1 / 64**0.5 / 3**0.5, rel=0.15)


def test_a_saved_model_is_loaded_as_it_was_and_a_linear_one_has_no_trace(tmp_path: Path) -> None:
    model, (values, mask) = recurrent_model(), waveforms([6000, 4000])
    model.save_pretrained(tmp_path)
    again = Wav2Vec2ForCTC.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(values, mask).logits, model(values, mask).logits)
    linear = Wav2Vec2ForCTC(small_config())
    assert linear.recurrent_head is None
    assert {name for name in linear.state_dict() if "wav2vec2." not in name} == {"lm_head.weight", "lm_head.bias"}


def test_stock_refuses_it_loudly(tmp_path: Path) -> None:
    recurrent_model().save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="mismatched"):
        transformers.Wav2Vec2ForCTC.from_pretrained(tmp_path)


@pytest.mark.slow
def test_it_is_not_published_as_a_model_that_stock_can_load(tmp_path: Path) -> None:
    """What `wav2vec2 push` looks at before it uploads."""
    recurrent_model(vocab_size=len(processor().tokenizer)).save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    with pytest.raises(LoadingError, match="stock Transformers cannot use it: .*mismatched"):
        check_loading(tmp_path, [path.name for path in tmp_path.iterdir()])


def test_over_a_pretrained_body_it_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut after two of three layers, which is said in one line."""
    body = Wav2Vec2ForPreTraining(small_config())
    body.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, "wav2vec2"):
        model = Wav2Vec2ForCTC.from_pretrained(tmp_path, num_hidden_layers=2, **RECURRENT)
    fresh, cut, unused = told(caplog)
    assert "starts afresh" in fresh and "recurrent_head.convolution.weight" in fresh and "lm_head.bias" in fresh
    assert cut.endswith("of its 3 Transformer layers the first 2 are used (num_hidden_layers)")
    assert "quantizer.codevectors" in unused and "layers" not in unused
    before = body.state_dict()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items() if name.startswith("wav2vec2."))


def test_a_linear_head_is_no_part_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Refused as every other shape is, unless it may start afresh; the same the other way round."""
    Wav2Vec2ForCTC(small_config()).save_pretrained(tmp_path / "linear")
    recurrent_model().save_pretrained(tmp_path / "recurrent")
    for folder, options in (("linear", RECURRENT), ("recurrent", {"ctc_head": "linear"})):
        with pytest.raises(CheckpointError, match=r"lm_head.weight: \(32, \d+\) in the checkpoint"):
            Wav2Vec2ForCTC.from_pretrained(tmp_path / folder, **options)
        with caplog.at_level(logging.WARNING, "wav2vec2"):
            Wav2Vec2ForCTC.from_pretrained(tmp_path / folder, ignore_mismatched_sizes=True, **options)
        assert any("starts afresh, of another shape in the checkpoint: lm_head.weight" in line for line in told(caplog))


@pytest.mark.parametrize("lost", ["recurrent_head.", "recurrent_head.layers.0.backwards."])
def test_a_part_of_it_that_was_lost_is_an_error(lost: str, tmp_path: Path) -> None:
    recurrent_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(file).items() if not name.startswith(lost)}
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{lost}\S*bias"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path)


def test_a_checkpoint_transcribes(tmp_path: Path) -> None:
    """From its folder, in windows too."""
    folder = save_checkpoint(tmp_path / "plain")
    model = Wav2Vec2ForCTC.from_pretrained(folder, ignore_mismatched_sizes=True, **RECURRENT)
    model.save_pretrained(folder)
    transcriber = Transcriber.from_pretrained(folder, device="cpu", window_seconds=10, context_seconds=2)
    found = transcriber.transcribe((noise(25.0), RATE))
    assert isinstance(found, Transcript) and found.duration == 25.0
    log_probs, _ = transcriber.log_probs((noise(25.0), RATE))
    assert len(log_probs) == logits_length(25 * RATE, model.config)
