"""A run that goes on says how it differs from the one that began."""

import json
from pathlib import Path

from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import (
    RUN_FILE,
    DataSection,
    ModelSection,
    PretrainRun,
    RunSection,
    Source,
    changes,
    write_run,
)


def run_with(tmp_path: Path, **settings: object) -> PretrainRun:
    run = PretrainRun(
        model=ModelSection(preset="tiny"),
        data=DataSection(train=[Source("audio")]),
        run=RunSection(output=str(tmp_path)),
    )
    for name, value in settings.items():
        section, field = name.split("__")
        setattr(getattr(run, section), field, value)
    return run


def test_what_is_written_gives_the_run_again(tmp_path: Path) -> None:
    run = run_with(tmp_path, optimizer__learning_rate=3e-4)
    write_run(run, tmp_path)
    assert from_dict(PretrainRun, json.loads((tmp_path / RUN_FILE).read_text())) == run
    assert changes(run, tmp_path) == []


def test_what_changes_the_weights_is_named_and_what_does_not_is_not(tmp_path: Path) -> None:
    write_run(run_with(tmp_path), tmp_path)
    assert changes(run_with(tmp_path, run__seed=2, run__log_every=7, data__workers=0, run__keep_last=5), tmp_path) == [
        "changed since the run began: run.seed was 1, is 2"
    ]
    other = run_with(tmp_path, data__train=[Source("audio"), Source("more")])
    assert changes(other, tmp_path) == ["changed since the run began: data.train.1.path was None, is 'more'"]
    other = run_with(tmp_path, model__config={"layerdrop": 0.0})
    assert changes(other, tmp_path) == ["changed since the run began: model.config.layerdrop was None, is 0.0"]
    other = run_with(tmp_path, data__valid=[Source("held_out")])
    assert changes(other, tmp_path) == ["changed since the run began: data.valid.0.path was None, is 'held_out'"]


def test_a_folder_without_a_record_has_nothing_to_compare(tmp_path: Path) -> None:
    assert changes(run_with(tmp_path), tmp_path) == []
