"""Runs from YAML and overrides: strict, complete in what they complain about, and the same when read again."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wav2vec2 import finetune, pretrain
from wav2vec2.training.classification import classify
from wav2vec2.training.settings.classification_run import ClassificationRun
from wav2vec2.training.settings.recipe_files import listing, merged, scalar
from wav2vec2.training.settings.recipes import (
    RunConfigError,
    check_run,
    from_dict,
    read_run,
    resolve,
)
from wav2vec2.training.settings.run_config import (
    DataSection,
    FinetuneRun,
    ModelSection,
    PretrainRun,
    RunSection,
    Source,
    to_dict,
)
from wav2vec2.training.settings.strict_yaml import RecipeSyntaxError, parse
from wav2vec2.training.settings.typed_values import ABSENT

ENOUGH = ["model.preset=tiny", "data.train=[{path: audio/}]", "run.output=out"]


def problems(recipe: Path | str | None, *overrides: str, kind: Any = PretrainRun) -> list[str]:
    with pytest.raises(RunConfigError) as caught:
        read_run(kind, recipe, overrides)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_least_that_makes_a_run() -> None:
    run = read_run(PretrainRun, None, ENOUGH)
    assert run.model == ModelSection(preset="tiny")
    assert run.data.train == [Source("audio/")]
    assert run.run.output == "out"
    assert (run.optimizer.learning_rate, run.optimizer.betas, run.schedule.kind) == (5e-4, (0.9, 0.98), "polynomial")


def test_fine_tuning_has_its_own_defaults() -> None:
    """The paper's tri-stage schedule, Adam without weight decay, and masks of spans of 64 channels."""
    run = read_run(FinetuneRun, None, [*ENOUGH, "model.config.mask_time_prob=0.3"])
    assert (run.schedule.kind, run.schedule.warmup, run.schedule.hold) == ("tri_stage", 0.1, 0.4)
    assert (run.schedule.initial_scale, run.schedule.final_scale) == (0.01, 0.05)
    assert (run.optimizer.epsilon, run.optimizer.weight_decay) == (1e-8, 0.0)
    assert run.tuning.freeze_updates == 10_000
    assert run.model.config["mask_time_prob"] == 0.3, "one entry changes"
    assert run.model.config["mask_feature_length"] == 64, "the others stay"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5E+2", 500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("010", 10),  # YAML 1.1: 8
        ("1:30", "1:30"),  # YAML 1.1: 90
        ("1_000", "1_000"),  # YAML 1.1: 1000
        ("no", "no"),  # YAML 1.1: False
        ("on", "on"),
        ("true", True),
        ("'true'", "true"),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),  # YAML 1.1: a date
        ("[1, {a: b}]", [1, {"a": "b"}]),
        ("audio/e-1", "audio/e-1"),
    ],
)
def test_plain_values_are_those_of_json(text: str, value: object) -> None:
    read, _ = parse(text)
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: &x 1\nb: *x", "!!python/name:os.system", "a: [", "a: b: c", "--- 1\n--- 2", "[" * 3000]
)
def test_what_is_no_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(RecipeSyntaxError):
        parse(text)


@pytest.mark.parametrize(
    ("override", "value", "advice"),
    [
        ("optimizer.learning_rate='1e-3'", "'1e-3'", "must be a number"),
        ("optimizer.learning_rate=-1", "-1", "must be above 0"),
        ("optimizer.learning_rate=.nan", "nan", "must be a finite number"),
        ("optimizer.learning_rate=null", "null", "must be a number"),
        ("optimizer.learning_rate=true", "true", "must be a number"),
        ("optimizer.betas=[0.9]", "[0.9]", "must be a list of 2 values"),
        ("optimizer.betas=[0.9, 2]", None, "must be at least 0 and at most"),
        ("run.updates=4e5", "400000.0", "must be a whole number, as 400000"),
        ("run.updates=true", "true", "must be a whole number"),
        ("run.updates=0", "0", "must be at least 1"),
        ("run.compile='true'", "'true'", "must be true or false, without quotes"),
        ("run.compile=yes", "'yes'", "must be true or false"),
        ("run.compile=1", "1", "must be true or false"),
        ("run.output=2024", "2024", 'must be a text, as "2024" in quotes'),
        ("run.output=", "null", "must be a text"),
        ("run.output=''", "''", "must name a folder, such as run.output="),
        ("run.precision=bf61", "'bf61'", "must be one of auto, bf16, fp16, fp32"),
        ("run.trackers=[tensorbord]", None, "must be one of tensorboard, trackio"),
        ("run.trackers=tensorboard", "'tensorboard'", "must be a list, in square brackets"),
        ("run.savemany=1", "1", "is not known"),
        ("run.save_evry=1", "1", "is not known: did you mean save_every?"),
        ("guard.collapse=false", None, "is not known: did you mean guards?"),
        ("data=3", "3", "must be a section with keys of train, valid"),
        ("data.train=[]", "[]", "such as data.train.0.path=FOLDER"),
        ("data.train=[audio]", None, "must be a section with keys of path"),
        ("data.train=[{split: x}]", None, "is missing: give a text"),
        ("data.train.0.format=tape", "'tape'", "must be one of auto, folder, manifest, parquet, dataset"),
        ("data.max_seconds=1", None, "must be at most data.max_seconds=1"),
        ("data.seconds_per_batch=3", "3.0", "must have room for one clip of data.max_seconds=15.6"),
        ("schedule={kind: tri_stage, warmup: 0.9}", None, "the two must be at most 1 together"),
        ("schedule.kind=tri_stage", None, "must be above 0: an exponential decay never reaches 0"),
        (
            "model.checkpoint=x",
            "'tiny'",
            "exactly one of model.preset and model.checkpoint must be given, and both are",
        ),
        ("model.preset=null", "null", "and neither is"),
        ("model.preset=bse", "'bse'", "is not known: did you mean base?"),
        ("model.config.mask_time_prop=0.5", "0.5", "is no field of Wav2Vec2Config: did you mean mask_time_prob?"),
        ("model.config.hidden_size=190", "190", "must be divisible by num_attention_heads=4"),
        ("model.config.layerdrop=2", "2", "must be a probability between 0 and 1"),
        ("model.config.layerdrop=" + "9" * 400, None, "must be a finite number"),
        ("optimizer.learning_rate=" + "9" * 400, None, "must be a finite number"),
        ("learning_rate", None, "must be KEY=VALUE with a dotted key"),
        ("data..train=1", None, "must be KEY=VALUE with a dotted key"),
        ("data.train.5.path=x", None, "data.train is a list with 1 entries, in which '5' has no place"),
        ("run.output.folder=x", None, "run.output='out' has nothing inside"),
        ("run.output=[", None, "line 1"),
    ],
)
def test_every_mistake_is_named(override: str, value: str | None, advice: str) -> None:
    """Its key, its value, and what would be right."""
    found = problems(None, *ENOUGH, override)
    key = override.partition("=")[0]
    matching = [problem for problem in found if advice in problem]
    assert matching, found
    if value is not None:
        assert any(f"={value} " in problem or f"={value}:" in problem for problem in matching), found
    if advice not in str(problems(None, *ENOUGH[:2])):
        assert key.partition(".")[0] in matching[0]


def test_all_mistakes_come_at_once_with_file_and_line(tmp_path: Path) -> None:
    """Several in the recipe and in the overrides: one error has a line for each, and it says where."""
    recipe = write(
        tmp_path,
        "mine.yaml",
        "model:\n  preset: tiny\n  config: {hidden_size: 188}\n"
        "data:\n  min_seconds: -1\n  colour: red\noptimizer:\n  epsilon: small\n",
    )
    found = problems(recipe, "run.updates=many", "run.sed=3")
    assert [line.partition(":")[0] for line in found] == [
        "model.config.hidden_size=188 (mine.yaml, line 3)",
        "data.colour='red' (mine.yaml, line 6)",
        "data.min_seconds=-1 (mine.yaml, line 5)",
        "optimizer.epsilon='small' (mine.yaml, line 8)",
        "run.sed=3 (override run.sed=3)",
        "run.updates='many' (override run.updates=many)",
    ]
    with pytest.raises(RunConfigError, match=r"mine\.yaml cannot be started \(6 to correct\)"):
        read_run(PretrainRun, recipe, ["run.updates=many", "run.sed=3"])


def test_overrides_reach_everywhere() -> None:
    overrides = [
        *ENOUGH,
        "optimizer.learning_rate=3e-4",
        "optimizer.clip_norm=1",
        "data.train.0.weight=2",
        "data.train.1={path: b, split: train}",
        "data.train.1.split=test",
        "data.valid.0.path=c=d",
        "optimizer={epsilon: 1e-7}",
        "run.trackers=[tensorboard]",
        "model.config.mask_time_prob=0.5",
    ]
    run = read_run(PretrainRun, None, overrides)
    assert run.data.train == [Source("audio/", weight=2.0), Source("b", split="test")]
    assert run.data.valid == [Source("c=d")]
    assert (run.optimizer.learning_rate, run.optimizer.epsilon, run.optimizer.clip_norm) == (3e-4, 1e-7, 1.0)
    assert isinstance(run.optimizer.clip_norm, float)
    assert run.run.trackers == ["tensorboard"]
    assert run.model.config == {"mask_time_prob": 0.5}


def test_a_recipe_extends_another_and_says_only_what_differs(tmp_path: Path) -> None:
    """Relative to itself; sections are merged, lists replaced; the sources follow."""
    (tmp_path / "inner").mkdir()
    write(
        tmp_path,
        "bottom.yaml",
        "model: {preset: tiny, config: {layerdrop: 0.1, mask_time_prob: 0.2}}\n"
        "data: {train: [{path: a, weight: 1}, {path: b}]}\nrun: {output: x, seed: 5}\n",
    )
    top = write(
        tmp_path / "inner",
        "top.yaml",
        "extends: ../bottom.yaml\nmodel:\n  config: {layerdrop: 0.3}\ndata: {train: [{path: c}]}\n",
    )
    resolved = resolve(PretrainRun, top, ["run.seed=7"])
    assert resolved.run.model.config == {"layerdrop": 0.3, "mask_time_prob": 0.2}
    assert resolved.run.data.train == [Source("c")]
    assert (resolved.run.run.output, resolved.run.run.seed) == ("x", 7)
    source = resolved.layers.source_of
    assert source("model.config.layerdrop") == "top.yaml, line 3"
    assert source("model.config.mask_time_prob") == "bottom.yaml, line 1"
    assert source("run.seed") == "override run.seed=7"
    assert source("data.train.0.path") == "top.yaml, line 4"
    assert source("data.train.0.weight") is source("data.train.1.path") is None, "the list was replaced"
    assert source("data.workers") is None, "a section is no source"
    assert source("optimizer.betas") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: self.yaml\n", "extends itself"),
        ("extends: nowhere.yaml\n", "line 1: extends='nowhere.yaml': must be a recipe beside this one"),
        ("extends: 3\n", "extends=3: must be a recipe"),
        ("a: [\n", "self.yaml: line 2"),
        ("run: {seed: 1}\nrun: {seed: 2}\n", "line 2: 'run' stands twice"),
        ("- a\n", "must hold sections"),
        ("model:\n", "must be a section with keys of preset, checkpoint, config (it is empty: leave it out)"),
    ],
)
def test_recipes_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    assert any(message in problem for problem in problems(write(tmp_path, "self.yaml", text)))


def test_a_recipe_that_is_not_there() -> None:
    assert problems("base_960") == [
        "base_960: neither a file nor the name of a shipped recipe: did you mean base_960h?"
    ]


def test_a_run_made_in_python_is_checked_too() -> None:
    run = PretrainRun(
        model=ModelSection(preset="tiny"), data=DataSection(train=[Source("a")]), run=RunSection(output="out")
    )
    check_run(run)
    run.data.min_seconds = -1.0
    run.run.updates = 2.5  # type: ignore[assignment]
    with pytest.raises(RunConfigError, match=r"(?s)min_seconds=-1.0: must be at least 0.*updates=2.5: must be a whole"):
        check_run(run)


@pytest.mark.parametrize(
    ("train", "kind"), [(pretrain, PretrainRun), (finetune, FinetuneRun), (classify, ClassificationRun)]
)
def test_whatever_trains_checks_the_run_that_it_is_given(train: Any, kind: Any, tmp_path: Path) -> None:
    """Before anything else: the audio is not looked for, and no folder is made."""
    run = read_run(kind, None, ["model.preset=tiny", "data.train.0.path=nowhere", f"run.output={tmp_path / 'out'}"])
    run.optimizer.learning_rate = 0.0
    with pytest.raises(RunConfigError, match=r"optimizer\.learning_rate=0\.0: must be above 0"):
        train(run)
    assert list(tmp_path.iterdir()) == []


def test_the_recipes_own_batch_is_kept_beside_an_override_of_it() -> None:
    """Also when the run is saved and read again."""
    recipe = ["data.train.0.path=a"]
    assert read_run(PretrainRun, "large_960h", recipe).origin.seconds_per_update == 9720
    lowered = read_run(PretrainRun, "large_960h", [*recipe, "data.seconds_per_update=972"])
    lowered = from_dict(PretrainRun, json.loads(json.dumps(to_dict(lowered))))
    assert (lowered.origin.seconds_per_update, lowered.data.seconds_per_update) == (9720, 972)
    assert read_run(PretrainRun, None, ENOUGH).origin.seconds_per_update is None


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
positive = st.floats(1e-12, 1e12)
sources = st.fixed_dictionaries({"path": texts}, optional={"split": st.none() | texts, "weight": positive})
trees = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {"checkpoint": texts},
            optional={
                "config": st.dictionaries(st.sampled_from(["layerdrop", "dtype", "pad_token_id"]), st.none() | texts)
            },
        ),
        "data": st.fixed_dictionaries(
            {"train": st.lists(sources, min_size=1)}, optional={"workers": st.integers(0, 99)}
        ),
        "run": st.fixed_dictionaries({"output": texts}, optional={"compile": st.booleans()}),
    },
    optional={"optimizer": st.fixed_dictionaries({}, optional={"learning_rate": positive, "clip_norm": positive})},
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees)
def test_what_is_saved_or_listed_gives_the_same_run_again(tree: dict[str, Any], tmp_path: Path) -> None:
    """Through JSON, through JSON read as a recipe, and through the listing of `--dry-run`."""
    run = from_dict(PretrainRun, tree)
    saved = json.dumps(to_dict(run))
    assert from_dict(PretrainRun, json.loads(saved)) == run
    assert read_run(PretrainRun, write(tmp_path, "run.json", saved)) == run
    resolved = resolve(PretrainRun, tmp_path / "run.json")
    assert read_run(PretrainRun, write(tmp_path, "run.yaml", listing(run, resolved.layers))) == run


@settings(max_examples=150, deadline=None)
@given(value=st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
def test_a_listed_value_reads_the_same_here_and_under_yaml_1_1(value: object) -> None:
    line = scalar(value)
    assert "\n" not in line
    assert parse(line)[0] == value
    assert yaml.safe_load(line) == value


plain_trees = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
sections = st.dictionaries(st.sampled_from("abc"), plain_trees, max_size=3)


def leaves(tree: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value that is no section, by its path."""
    if isinstance(tree, dict):
        return {path: leaf for name, inner in tree.items() for path, leaf in leaves(inner, (*prefix, name)).items()}
    return {prefix: tree}


@given(below=sections, above=sections)
def test_merging_adds_to_sections_and_replaces_the_rest(below: Any, above: Any) -> None:
    """Every upper leaf is there, and a lower one unless the upper has a leaf on its way, or a section in its place."""
    before = copy.deepcopy((below, above))
    expected = leaves(above)
    for path, leaf in leaves(below).items():
        here: Any = above
        for name in path:
            here = here.get(name, ABSENT) if isinstance(here, dict) else here
        if here is ABSENT:
            expected[path] = leaf
    assert leaves(merged(below, above)) == expected
    assert (below, above) == before
