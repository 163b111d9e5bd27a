"""Kept features are what the convolutions give, of each clip by itself; limits are honoured; models go on."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from small_models import HEADS, small_config, waveforms
from training_audio import write_manifest

from wav2vec2 import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model
from wav2vec2.modeling.convolved_clips import ConvolvedClips
from wav2vec2.training.data.batch_loading import Batch, TrainingData
from wav2vec2.training.data.division import AS_THE_CLIPS
from wav2vec2.training.data.feature_stores import DiskStore, FeatureStore, MemoryStore, Packed, packed
from wav2vec2.training.data.kept_clips import KeptClips
from wav2vec2.training.data.micro_batches import ClipByClip, Waveforms, filled
from wav2vec2.training.held_part import reason_against_encoder
from wav2vec2.training.kept_features import KeptFeatures, reason_against
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import DataSection, FinetuneRun, Source
from wav2vec2.training.tasks.supervised_task import convolved_clips

LENGTHS = [0.5, 0.72, 0.31, 0.9, 0.44, 0.66]


# --- models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("architecture", ["base", "large_lv60k"])
@pytest.mark.parametrize("head", [one for one in HEADS if one is not Wav2Vec2ForPreTraining])
def test_a_model_goes_on_from_features_as_from_waveforms(head: Any, architecture: str, training: bool) -> None:
    """The same output and gradients, masks and dropout included, of clips of all lengths, one without a frame."""
    torch.manual_seed(0)
    model = head(small_config(architecture, vocab_size=7, num_labels=3, feature_grad_mult=0.0, layerdrop=0.0))
    model.train(training)
    values, mask = waveforms([16000, 9000, 390, 5000])
    seeds = torch.arange(4)
    with torch.no_grad():
        features = model.base_model.encode(values, mask).features
    clips = ConvolvedClips(features, mask.sum(1), values.shape[1])
    found = []
    for given in ({"input_values": values, "attention_mask": mask}, {"input_values": clips}):
        model.zero_grad()
        torch.manual_seed(1)
        with torch.set_grad_enabled(training):
            output = model(**given, clip_seeds=seeds)
        result = output.last_hidden_state if head is Wav2Vec2Model else output.logits
        if training:
            result.square().mean().backward()
        found.append((result, {name: p.grad for name, p in model.named_parameters()}))
    (expected, gradients), (result, others) = found
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    for name, gradient in gradients.items():
        assert (gradient is None) == (others[name] is None), name
        assert gradient is None or "feature_extractor.conv" not in name
        if gradient is not None:
            torch.testing.assert_close(others[name], gradient, atol=1e-6, rtol=1e-4)


def test_the_adapter_and_clips_that_are_all_too_short() -> None:
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config(vocab_size=7, add_adapter=True, feature_grad_mult=0.0)).eval()
    for lengths in ([16000, 5000], [300, 200]):
        values, mask = waveforms(lengths)
        frames = model.wav2vec2.encode(values, mask)
        clips = ConvolvedClips(frames.trim(frames.features), mask.sum(1), values.shape[1])
        for grad in (True, False):  # whole, and in groups
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(model(clips).logits, model(values, mask).logits, atol=1e-6, rtol=1e-5)


# --- 16 bits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_rounding_is_that_of_eleven_bits_whatever_the_range(size: float) -> None:
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * size
    features[0] *= 1e-4
    found = packed(features)
    assert found.features.dtype == torch.float16 and float(torch.frexp(found.scale).mantissa) == 0.5
    error = (found.features.double() * found.scale.double() - features.double()).abs()
    assert bool((error <= features.double().abs() * 2**-11).all())
    if size == 1.0:  # as float16 of NumPy, which has fewer bits below 2^-14
        large = features.abs() > 2**-14
        rounded = (found.features.float() * found.scale)[large].numpy()
        assert np.array_equal(rounded, features[large].numpy().astype(np.float16))


def test_what_has_16_bits_is_kept_as_it_is_and_no_number_stays_none() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        features = torch.randn(9, 4).to(dtype)
        found = packed(features.t().contiguous().t())
        assert torch.equal(found.features, features) and found.features.is_contiguous() and float(found.scale) == 1
    assert packed(torch.zeros(0, 4)).features.shape == (0, 4)
    assert not packed(torch.zeros(3, 4)).features.any()
    assert packed(torch.tensor([[1.0, float("inf")]])).features.isinf().tolist() == [[False, True]]
    assert packed(torch.tensor([[1.0, float("nan")]])).features.isnan().tolist() == [[False, True]]


# --- stores --------------------------------------------------------------------------------------------------------


def some(number: int, frames: int = 10) -> Packed:
    generator = torch.Generator().manual_seed(number)
    return packed(torch.randn(frames, 5, generator=generator) * 10.0**number)


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    """With room for three clips of ten frames and a half."""
    limit = 3.5 * 10 * 5 * 2
    return MemoryStore(limit) if request.param == "memory" else DiskStore(limit, tmp_path)


def test_a_store_gives_back_what_came_first_up_to_its_limit(store: FeatureStore, tmp_path: Path) -> None:
    assert [store.put(number, some(number)) for number in (4, 0, 2, 7, 0)] == [True, True, True, False, True]
    assert store.put(8, some(8, frames=5)) and not store.put(9, some(9, frames=1))
    for number, frames in ((4, 10), (0, 10), (2, 10), (8, 5)):
        found, expected = store.get(number), some(number, frames)
        assert found is not None
        assert torch.equal(found.features, expected.features) and torch.equal(found.scale, expected.scale)
    assert store.get(7) is None and store.get(9) is None
    assert list(tmp_path.iterdir()) == []  # a file without a name: nothing that a later run could find


def test_bfloat16_goes_to_the_disk_and_back(tmp_path: Path) -> None:
    store, features = DiskStore(1e6, tmp_path), torch.randn(7, 3).bfloat16()
    store.put(0, packed(features))
    found = store.get(0)
    assert found is not None and torch.equal(found.features, features)


# --- from clips to features ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    model: Wav2Vec2ForCTC = Wav2Vec2ForCTC(small_config(vocab_size=7, feature_grad_mult=0.0)).train()
    return model


def data_of(folder: Path, **changes: Any) -> TrainingData:
    """Six clips in updates of about two."""
    write_manifest(folder, LENGTHS)
    settings: dict[str, Any] = {"min_seconds": 0.2, "seconds_per_update": 1.2, "seconds_per_batch": 1.2}
    settings |= {"max_seconds": 1.0, "workers": 0, "bucket_updates": 3, "valid": []}
    return TrainingData(DataSection(train=[Source(str(folder / "manifest.tsv"))], **(settings | changes)), 1)


def keeping(model: Wav2Vec2ForCTC, store: FeatureStore, clips: KeptClips, said: list[str]) -> KeptFeatures:
    AcceleratorState._reset_state()  # whatever ran in this process before chose a precision of its own
    return KeptFeatures(model, Accelerator(cpu=True), store, clips, said.append)


def taken(data: TrainingData, updates: int) -> Iterator[Batch]:
    """The micro-batches of so many updates."""
    given: dict[str, Any] = {"processes": 1, "process": 0, "start_update": 0, "position": {}}
    with closing(data.batches(ClipByClip(Waveforms(normalize=True)), **given)) as batches:
        for batch in batches:
            if batch.update >= updates:
                break
            yield batch


def features_of(batch: Batch, model: Wav2Vec2ForCTC) -> dict[str, torch.Tensor]:
    """Of each clip its real frames, as the model takes them."""
    clips = convolved_clips(batch.inputs, model.config)
    lengths = model._get_feat_extract_output_lengths(clips.lengths).tolist()
    rows = zip(batch.ids, clips.features, lengths, strict=False)
    return {name: row[:length] for name, row, length in rows}


def test_features_are_those_of_the_clip_alone_and_computed_once(tmp_path: Path, model: Wav2Vec2ForCTC) -> None:
    """In whatever batch a clip stands: the same bits, and within rounding what the convolutions give. After the first
    epoch no file is opened and no convolution computed."""
    data = data_of(tmp_path / "clips")
    data.kept = KeptClips(data.numbers)
    calls: list[int] = []
    hook = model.wav2vec2.feature_extractor.register_forward_hook(lambda *_: calls.append(1))
    keep = keeping(model, MemoryStore(1e9), data.kept, [])
    calls.clear()
    heard: dict[str, torch.Tensor] = {}
    neighbours: set[tuple[str, ...]] = set()
    for batch in taken(data, 12):
        waves = dict(zip([clip.id for clip in batch.clips if clip.read], one_by_one(batch), strict=True))
        found = keep(batch)
        assert len(found.convolved or []) == len(waves)
        neighbours.add(tuple(batch.ids))
        for name, features in features_of(found, model).items():
            assert name in heard or name in waves
            if name not in heard:
                heard[name] = features
                with torch.no_grad():
                    exact = model.wav2vec2.encode(waves[name][None]).features[0]
                calls.pop()  # this one
                assert bool(((features - exact).abs() <= exact.abs() * 2**-11 + 1e-6).all())
                (tmp_path / "clips" / name).unlink()
            assert torch.equal(features, heard[name])
    hook.remove()
    assert len(heard) == len(LENGTHS) == len(calls) and len(neighbours) > 3


def one_by_one(batch: Batch) -> Any:
    lengths = [clip.length for clip in batch.clips if clip.read]
    return batch.inputs["input_values"].split(lengths)


def test_the_same_bits_with_nothing_kept(tmp_path: Path, model: Wav2Vec2ForCTC) -> None:
    """A run that is resumed computes again what it had kept; a limit changes no result."""
    found = []
    for limit in (1e9, 3000.0, 0.0):
        data = data_of(tmp_path / "clips")
        data.kept = KeptClips(data.numbers)
        keep = keeping(model, MemoryStore(limit), data.kept, [])
        batches = [keep(batch) for batch in taken(data, 9)]
        found.append([batch.inputs for batch in batches])
        counts = [(len(batch.convolved or []), len(batch.clips)) for batch in batches[-6:]]
        convolved, clips = (sum(numbers) for numbers in zip(*counts, strict=True))
        assert {1e9: convolved == 0, 3000.0: 0 < convolved < clips, 0.0: convolved == clips}[limit], counts
    for one in found[1:]:
        for first, other in zip(found[0], one, strict=True):
            assert first.keys() == other.keys() and all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.slow
def test_worker_processes_learn_what_they_need_not_read(tmp_path: Path, model: Wav2Vec2ForCTC) -> None:
    data = data_of(tmp_path / "clips", workers=2)
    data.kept = KeptClips(data.numbers)
    keep = keeping(model, MemoryStore(1e9), data.kept, [])
    batches = [keep(batch) for batch in taken(data, 30)]
    assert all(clip.read for clip in batches[0].clips)
    assert not any(clip.read for batch in batches[-6:] for clip in batch.clips)
    alone = data_of(tmp_path / "clips")
    for one, other in zip(batches, taken(alone, 30), strict=True):
        assert (one.ids, one.seconds, one.shape) == (other.ids, other.seconds, other.shape)
        for name in ("sample_lengths", "clip_seeds"):
            assert torch.equal(one.inputs[name], other.inputs[name])


def test_copies_are_clips_of_their_own_and_evaluations_have_their_own_numbers(tmp_path: Path) -> None:
    """A clip at another speed is another row of the manifest. What is cropped at random has no number."""
    path = tmp_path / "clips" / "manifest.tsv"
    sources: dict[str, Any] = {"valid": [Source(str(path))], "max_seconds": 0.7}
    data = data_of(tmp_path / "clips", **sources)
    path.write_text(path.read_text() + "clip000.wav\t0.5\n", encoding="utf-8")  # the same file once more
    data = TrainingData(data.section, 1)
    numbers: dict[str, set[int | None]] = {}
    for clip in (clip for batch in taken(data, 20) for clip in batch.clips):
        numbers.setdefault(clip.id, set()).add(clip.number)
    expected: dict[str, set[int | None]] = {f"clip{n:03d}.wav": {n} for n in range(6)}
    expected |= {"clip000.wav": {0, 6}, "clip001.wav": {None}, "clip003.wav": {None}}
    assert numbers == expected
    collate = ClipByClip(Waveforms(normalize=True))
    batches = data.evaluation_batches(collate, processes=1, process=0, seconds_per_batch=3.0)
    assert sorted(clip.number or 0 for batch in batches for clip in batch.clips) == [7, 8, 9, 10, 11, 12, 13]
    assert data.numbers == 14


@pytest.mark.parametrize("fault", ["full", "short", "unwritable"])
def test_a_broken_disk_is_told_of_once_and_stops_nothing(
    tmp_path: Path, model: Wav2Vec2ForCTC, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """What is on it already is used on; the features are those of a run that keeps nothing."""
    data, alone = data_of(tmp_path / "clips"), data_of(tmp_path / "clips")
    data.kept = KeptClips(data.numbers)
    said: list[str] = []
    store = DiskStore(1e9, tmp_path if fault != "unwritable" else tmp_path / "nowhere")
    keep, plain = keeping(model, store, data.kept, said), keeping(model, MemoryStore(0), KeptClips(6), [])
    written = []
    for batch, other in zip(taken(data, 12), taken(alone, 12), strict=True):
        if batch.update == 1 and fault != "unwritable":
            file: Any = store._file

            def write(data: Any) -> int:
                if fault == "full":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return len(data) - 1

            monkeypatch.setattr(store, "_file", SimpleNamespace(seek=file.seek, readinto=file.readinto, write=write))
        found, expected = keep(batch), plain(other)
        written.append(len(batch.clips) - len(found.convolved or []))
        assert all(torch.equal(found.inputs[name], expected.inputs[name]) for name in expected.inputs)
    assert len(said) == 1 and "nothing more is kept on the disk" in said[0]
    assert (sum(written) > 0) == (fault != "unwritable")


def test_a_batch_without_clips_has_one_row_that_counts_for_nothing(model: Wav2Vec2ForCTC) -> None:
    empty = Batch(0, 0, 1, ClipByClip(Waveforms(normalize=True))([]), [], 0.0, shape=filled(AS_THE_CLIPS, []))
    inputs = keeping(model, MemoryStore(0), KeptClips(0), [])(empty).inputs
    assert inputs["features"].shape == (1, 1, 32) and inputs["sample_lengths"].tolist() == [0]


# --- when nothing can be kept --------------------------------------------------------------------------------------


def test_what_is_not_the_same_each_time_is_not_kept(tmp_path: Path) -> None:
    def reason(distributed: DistributedType = DistributedType.NO, numbers: int = 6, **config: Any) -> str | None:
        model = Wav2Vec2ForCTC(small_config(vocab_size=7, **({"feature_grad_mult": 0.0} | config)))
        if config.get("frozen"):
            model.freeze_feature_encoder()
        data: Any = SimpleNamespace(numbers=numbers)
        return reason_against(model, data, distributed)

    assert reason() is None
    assert reason(feature_grad_mult=0.1, frozen=True) is None
    assert reason(padding_invariant_norm=False, feat_extract_norm="layer") is None
    assert "feature_grad_mult=0.1" in str(reason(feature_grad_mult=0.1))
    assert "padding_invariant_norm" in str(reason(padding_invariant_norm=False))
    assert "stream" in str(reason(numbers=0))
    assert "FSDP" in str(reason(DistributedType.FSDP))


def test_what_of_a_run_lets_the_whole_encoder_be_kept() -> None:
    """A head that learns alone over an encoder in which nothing is drawn; the reason names the setting against it."""
    drawn = ("feat_proj_dropout", "hidden_dropout", "attention_dropout", "activation_dropout", "layerdrop")
    calm: dict[str, Any] = {name: 0.0 for name in drawn} | {"ctc_head": "recurrent", "ctc_head_masks": True}

    def reason(*settings: str, **config: Any) -> str | None:
        run = read_run(FinetuneRun, "ctc_small_minutes", ["data.train.0.path=train.tsv", *settings])
        return reason_against_encoder(run, small_config(vocab_size=7, **(calm | config)))

    assert reason() is None
    assert reason(apply_spec_augment=False, ctc_head_masks=False) is None
    assert reason("tuning.freeze_updates=100") == "it is trained"
    assert reason("tuning.method=lora") == "it is trained"
    assert "streaming" in str(reason("streaming.share=0.5"))
    for name, value in (("hidden_dropout", 0.1), ("layerdrop", 0.1)):
        assert f"model.config.{name}={value:g}" in str(reason(**{name: value}))
    for name, flag in (("ctc_head_masks", False), ("add_adapter", True)):
        assert f"model.config.{name}={str(flag).lower()}" in str(reason(**{name: flag}))
    assert "model.config.padding_invariant_norm" in str(reason(padding_invariant_norm=False))
