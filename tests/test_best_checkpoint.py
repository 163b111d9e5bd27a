"""By which error rate a fine-tuning run tells which of its models is the best."""

from pathlib import Path
from typing import Any

import pytest
from finetuning_runs import labelled_recipe, train, write_spoken_tones
from safetensors.torch import load_file

from wav2vec2.training.tasks.ctc_task import CTCTask

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("judged_by", "best"), [("wer", 1), ("cer", 2)])
def test_the_model_is_the_best_by_the_rate_that_is_asked_for(
    judged_by: str, best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first update to the second more words become wrong, and fewer letters."""
    figures = CTCTask.evaluation_figures
    rates = iter([{"wer": 0.5, "cer": 0.4}, {"wer": 0.6, "cer": 0.3}])
    monkeypatch.setattr(CTCTask, "evaluation_figures", lambda task, sums: figures(task, sums) | next(rates))
    manifest = write_spoken_tones(tmp_path / "tones", ["abba cab", "dead beef", "face a bad fad"])
    values: dict[str, Any] = labelled_recipe(tmp_path / "run", manifest, manifest, text__judged_by=judged_by)
    values["run"] |= {"updates": 2, "evaluate_every": 1, "save_every": 1, "keep_last": 2}
    train(values)
    model, first, second = (
        load_file(folder / "model.safetensors")["lm_head.weight"]
        for folder in (tmp_path / "run" / "model", *sorted((tmp_path / "run" / "checkpoints").glob("update-*")))
    )
    assert not first.equal(second)
    assert model.equal((first, second)[best - 1])
