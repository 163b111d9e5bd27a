"""Micro-batches come in few shapes, with little padding, and nothing that is learnt depends on them."""

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import combinations, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fast_cases import fast_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_models import CALM, small_config
from torch import Tensor
from training_audio import encoded, write_manifest, write_parquet

from wav2vec2 import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
    build_vocabulary,
)
from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.data.batch_loading import Batch, TrainingData
from wav2vec2.training.data.division import AS_THE_CLIPS, Division, LengthGrid, Shape, divide
from wav2vec2.training.data.global_batches import GlobalBatches, SourceShare
from wav2vec2.training.data.micro_batches import Waveforms
from wav2vec2.training.settings.run_config import DataSection, Source
from wav2vec2.training.tasks.classification_task import ClipLabelTask, FrameLabelTask, SpeakerTask
from wav2vec2.training.tasks.ctc_task import CTCTask
from wav2vec2.training.tasks.pretraining_task import PretrainingTask

#: What the recipe base_960h says, which are the defaults.
RECIPE = DataSection()


def like_librispeech(clips: int) -> NDArray[np.float64]:
    """Lengths in seconds with the shape of LibriSpeech's 960 hours: 12.8 s on average, most of 12 to 16 s, a tail down
    to 1.3 s and a thin one up to 24.5 s."""
    draw = np.random.default_rng(0)
    most, short = draw.triangular(11, 15.4, 16.9, clips), 2 + 11 * draw.beta(1.6, 1.3, clips)
    long = draw.uniform(16, 24.5, clips)
    kind = draw.random(clips)
    return np.clip(np.where(kind < 0.72, most, np.where(kind < 0.985, short, long)), 1.3, 24.5)


def updates_of(lengths: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The seconds of the clips of each update of an epoch of the recipe."""
    used = np.minimum(lengths[lengths >= RECIPE.min_seconds], RECIPE.max_seconds)
    batches = GlobalBatches(
        used,
        [SourceShare(np.arange(len(used)), 1.0)],
        seed=1,
        seconds_per_update=RECIPE.seconds_per_update,
        bucket_updates=RECIPE.bucket_updates,
    )
    return [used[batches(update)] for update in range(batches.batches_per_round)]


def held(division: Division, seconds: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Rows and seconds of every micro-batch that has clips."""
    pairs = [
        (group, shape)
        for groups, shapes in zip(division.groups, division.shapes, strict=True)
        for group, shape in zip(groups, shapes, strict=True)
        if len(group)
    ]
    return [
        (max(shape.rows, len(group)), max(shape.samples / 16000, float(seconds[group].max()))) for group, shape in pairs
    ]


@pytest.mark.slow
def test_an_epoch_of_librispeech_has_few_shapes_and_little_padding() -> None:
    """281,241 clips by the recipe base_960h: at most 40 shapes, under 5 % padding (without a grid, as many shapes as
    batches and 0.1 %). Every clip is there once, and no micro-batch is larger than allowed."""
    updates = updates_of(like_librispeech(281_241))
    grid = LengthGrid(RECIPE.max_seconds, RECIPE.length_steps)
    shapes: set[tuple[int, float]] = set()
    padded = 0.0
    for seconds in updates:
        division = divide(seconds, 1, RECIPE.seconds_per_batch, grid)
        assert sorted(np.concatenate(division.groups[0]).tolist()) == list(range(len(seconds)))
        found = held(division, seconds)
        shapes.update(found)
        padded += sum(rows * length for rows, length in found)
    assert 20 < len(shapes) <= 40
    assert max(rows * length for rows, length in shapes) <= RECIPE.seconds_per_batch
    assert padded < 1.03 * sum(float(seconds.sum()) for seconds in updates)


Rounding = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def by_steps(steps: Sequence[float]) -> Rounding:
    """The next of some steps, by comparing with all of them."""
    return lambda lengths: np.array([min(step for step in steps if step >= one - 1e-9) for one in lengths])


def padding_of(updates: list[NDArray[np.float64]], rounded: Rounding) -> tuple[int, float]:
    """Shapes and share of padding where every group is filled up, longest clips first."""
    shapes, padded = set(), 0.0
    for seconds in updates:
        lengths = rounded(np.sort(seconds)[::-1]).tolist()
        while lengths:
            rows = int(RECIPE.seconds_per_batch / lengths[0] + 1e-9)
            shapes.add((rows, lengths[0]))
            padded += rows * lengths[0]
            lengths = lengths[rows:]
    return len(shapes), padded / sum(float(seconds.sum()) for seconds in updates) - 1


def test_the_steps_are_better_than_equal_ones_and_than_equal_ratios() -> None:
    """With as many shapes: less padding than equal ratios on LibriSpeech, and than equal steps on clips of 2 to 5 s."""
    grid = LengthGrid(RECIPE.max_seconds, RECIPE.length_steps)
    long, short = like_librispeech(30_000), np.random.default_rng(1).uniform(2, 5, 60_000)
    updates = {"long": updates_of(long), "short": updates_of(short)}
    ours = {name: padding_of(one, grid.rounded) for name, one in updates.items()}
    count = ours["long"][0]
    ratio = (RECIPE.max_seconds / RECIPE.min_seconds) ** (1 / (count - 1))
    equal = (RECIPE.max_seconds - RECIPE.min_seconds) / (count - 1)
    ratios = by_steps([RECIPE.max_seconds / ratio**number for number in range(count)])
    steps = by_steps([RECIPE.max_seconds - equal * number for number in range(count)])
    assert ours["long"][1] < 0.9 * padding_of(updates["long"], ratios)[1]
    assert ours["long"][1] < 1.3 * padding_of(updates["long"], steps)[1]
    assert ours["short"][1] < 0.8 * padding_of(updates["short"], steps)[1]


LENGTHS = st.lists(st.floats(0.5, 15.6), min_size=1, max_size=40)


def time_of(division: Division, seconds: NDArray[np.float64]) -> float:
    """Seconds that processes hear which wait for each other after every part."""
    total = 0.0
    for part in range(division.parts):
        one = Division(1, [[groups[part]] for groups in division.groups], [[s[part]] for s in division.shapes])
        total += max([rows * length for rows, length in held(one, seconds)], default=0.0)
    return total


@settings(deadline=None, max_examples=150)
@given(LENGTHS, st.integers(1, 5), st.floats(16, 90), st.integers(1, 40))
def test_no_update_pays_much_for_the_grid(lengths: list[float], processes: int, limit: float, steps: int) -> None:
    """Every clip once, within the limit; at most an eighth more time; one part stays one; as many parts for each
    process; and where the grid is used, rows that follow from the length."""
    seconds = np.array(lengths)
    plain = divide(seconds, processes, limit)
    division = divide(seconds, processes, limit, LengthGrid(15.6, steps))
    groups = [group for parts in division.groups for group in parts]
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert {len(parts) for parts in division.groups} == {division.parts}
    assert all(rows * length <= limit * (1 + 1e-6) for rows, length in held(division, seconds) if rows > 1)
    assert time_of(division, seconds) <= time_of(plain, seconds) * 9 / 8 + 1e-6
    assert division.parts == 1 or plain.parts > 1
    for parts, shapes in zip(division.groups, division.shapes, strict=True):
        assert all(shape == AS_THE_CLIPS or shape.rows >= len(one) for one, shape in zip(parts, shapes, strict=True))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(2, 15.6), min_size=4, max_size=9))
def test_one_process_has_the_fewest_parts_and_each_is_filled_up(lengths: list[float]) -> None:
    """No way to cut the clips, in the order of length, into fewer micro-batches leaves all of them within the limit;
    and only the last has room for one clip more."""
    limit, grid = 40.0, LengthGrid(15.6, 16)
    seconds = np.array(lengths)
    division = divide(seconds, 1, limit, grid)
    if division.shapes[0][0] == AS_THE_CLIPS:
        return
    ordered = grid.rounded(np.sort(seconds)[::-1])
    for cuts in combinations(range(1, len(ordered)), division.parts - 2) if division.parts > 1 else []:
        pairs = zip((0, *cuts), (*cuts, len(ordered)), strict=True)
        assert max(ordered[first] * (last - first) for first, last in pairs) > limit
    assert all((rows + 1) * length > limit for rows, length in held(division, seconds)[:-1])


def test_steps_go_on_above_the_longest_clip_and_never_fall_short() -> None:
    """Whole clips of an evaluation may be longer than those of training; steps of a sample end the table."""
    grid = LengthGrid(15.6, 32)
    wanted = np.concatenate([np.arange(1, 3000), np.linspace(3000, 900_000, 5000).astype(np.int64)])
    found = grid.samples(wanted)
    assert (found >= wanted).all() and (np.diff(found) >= 0).all()
    assert (grid.samples(found) == found).all()
    longer = found / wanted - 1
    assert longer[wanted > 1000].max() < 0.1 and longer[wanted > 86_400].mean() < 0.03
    assert grid.rounded(np.array([15.6])).tolist() == [15.6]


def shapes_of(batches: Any) -> set[tuple[int, int]]:
    with closing(batches):
        return {tuple(batch.inputs["input_values"].shape) for batch in takewhile(lambda one: one.update < 8, batches)}


@pytest.mark.parametrize("kind", ["manifest", "stream", "evaluation"])
def test_every_kind_of_batches_comes_in_few_shapes(kind: str, tmp_path: Path) -> None:
    """240 clips of as many lengths, in updates of 32 s and batches of 3 s; without the grid, nearly as many shapes as
    batches."""
    lengths = [0.3 + 0.7 * number / 240 for number in range(240)]
    source = Source(str(write_manifest(tmp_path / "data", lengths)))
    if kind == "stream":
        pytest.importorskip("datasets")
        rows: list[dict[str, object]] = [
            {"audio": {"bytes": encoded(n, one), "path": f"{n}.wav"}} for n, one in enumerate(lengths)
        ]
        write_parquet(tmp_path / "shards" / "0.parquet", rows)
    train = Source(str(tmp_path / "shards"), streaming=True) if kind == "stream" else source
    found = []
    for steps in (8, 0):
        section = DataSection(
            train=[train],
            valid=[source],
            min_seconds=0.2,
            max_seconds=1.0,
            seconds_per_update=32.0,
            seconds_per_batch=3.0,
            stream_pool=200,
            length_steps=steps,
            workers=0,
        )
        data = TrainingData(section, 1)
        if kind == "evaluation":
            batches = data.evaluation_batches(Waveforms(False), processes=1, process=0, seconds_per_batch=3.0)
        else:
            batches = data.batches(Waveforms(False), processes=1, process=0, start_update=0, position={})
        found.append(shapes_of(batches))
    grid = LengthGrid(1.0 if kind == "stream" else lengths[-1], 8)
    assert {samples for _, samples in found[0]} <= set(grid.samples(np.arange(3200, 16001)).tolist())
    assert len(found[0]) <= 24 < 45 < len(found[1])


TOKENIZER = partial(Wav2Vec2CTCTokenizer.from_vocabulary, build_vocabulary(["a b"]))

CASES: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "pretraining": (lambda config, e: PretrainingTask(config, e, 1), Wav2Vec2ForPreTraining),
    "ctc": (lambda config, e: CTCTask(config, e, TOKENIZER(), 1), Wav2Vec2ForCTC),
    "clips": (lambda config, e: ClipLabelTask(config, e, ["a", "b"], 1), Wav2Vec2ForSequenceClassification),
    "frames": (lambda config, e: FrameLabelTask(config, e, ["a", "b"], 1), Wav2Vec2ForAudioFrameClassification),
    "speakers": (lambda config, e: SpeakerTask(config, e, ["a", "b"], 1), Wav2Vec2ForXVector),
}


def learnt(task: Any, model: Any, inputs: dict[str, Tensor]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The sums and the gradient of an update of one part."""
    model.zero_grad()
    task.begin(model, 3)
    whole = task.whole_update(model, [inputs, inputs], 2 * torch.as_tensor(task.counts(inputs)), None)
    output = task.part(model, inputs, whole)
    output.loss.backward()
    sums = {name: float(value) for name, value in output.sums.items() if value.dim() == 0}
    return sums, {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("architecture", fast_cases(["base", "large_lv60k"], "base"))
@pytest.mark.parametrize("case", CASES)
def test_rows_and_samples_of_padding_change_no_gradient(case: str, architecture: str) -> None:
    """With every loss, after group norm and after layer norm, masks of time and channels drawn: the same masks on the
    clips' own frames, the same sums, the same gradients to rounding."""
    make, head = CASES[case]
    random = {"mask_feature_prob": 0.3, "mask_feature_length": 4, "feature_penalty_weight": 10.0, "num_labels": 2}
    config = small_config(architecture, **(CALM | random | ({"vocab_size": 8} if case == "ctc" else {})))
    torch.manual_seed(0)
    task, model = make(config, Wav2Vec2FeatureExtractor()), head(config).double().train()
    said = ["0-0.1 b", "0.1-0.2 a", "0-0.3 b"] if case == "frames" else ["a", "b", "a"]
    clips = [
        LoadedClip(str(n), np.random.default_rng(n).standard_normal(size).astype(np.float32), 50 + n, said[n], "aba"[n])
        for n, size in enumerate((8000, 6400, 5000))
    ]
    found = []
    for shape in (AS_THE_CLIPS, Shape(3, 9600), Shape(6, 8000), Shape(5, 12_000)):
        inputs = task.with_targets(task.waveforms(clips, shape), [clip.facts for clip in clips])
        assert inputs["input_values"].shape == (max(3, shape.rows), max(8000, shape.samples))
        masks = inputs.get("mask_time_indices", torch.zeros(6, 40))
        assert not masks[3:].any() and not masks[:3, 24:].any()
        inputs["input_values"] = inputs["input_values"].double()
        found.append((*learnt(task, model, inputs), masks[:3, :24]))
    sums, gradients, masks = found[0]
    assert sums["loss"] > 0 and max(float(one.abs().max()) for one in gradients.values()) > 1e-3
    rounding = 1e-5 if case == "frames" else 1e-9  # its loss is in float32
    for others, of_others, their_masks in found[1:]:
        assert torch.equal(masks, their_masks)
        assert others == pytest.approx(sums, rel=rounding)
        torch.testing.assert_close(of_others, gradients, atol=rounding, rtol=rounding)


def test_a_longer_file_than_its_header_said_takes_the_next_step(tmp_path: Path) -> None:
    """And one that cannot be read leaves its row empty: the shapes stay those of the grid."""
    path = write_manifest(tmp_path / "data", [0.5] * 10)
    lines = path.read_text(encoding="utf-8").replace("clip003.wav\t0.5", "clip003.wav\t0.45")
    path.write_text(lines, encoding="utf-8")
    (path.parent / "clip004.wav").write_bytes(b"damaged")
    section = DataSection(
        train=[Source(str(path))],
        min_seconds=0.2,
        max_seconds=1.0,
        seconds_per_update=5.0,
        seconds_per_batch=6.0,
        workers=0,
    )
    batches = TrainingData(section, 1).batches(Waveforms(False), processes=1, process=0, start_update=0, position={})
    with closing(batches):
        batch: Batch = next(batches)
    assert batch.inputs["input_values"].shape == (10, 8000) and len(batch.clips) == 9
    assert batch.inputs["sample_lengths"].tolist() == [8000] * 9 + [0]
    assert batch.inputs["clip_seeds"].tolist() == [*(clip.seed for clip in batch.clips), 0]
    assert float(batch.inputs["input_values"][9].abs().max()) == 0
