"""What the quickstart is to show: the small pretrained model learns to spell where its shape from scratch does not."""

from pathlib import Path

import pytest
from quickstart_runs import few_voices

import wav2vec2
from wav2vec2.quickstart.manifest_files import Corpus
from wav2vec2.quickstart.spoken_corpus import CorpusSize, make_corpus
from wav2vec2.quickstart.training_stages import CHECKPOINT, TrainingSize, finetuning_run
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.progress.training_log import read_log

pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")
pytestmark = pytest.mark.slow

#: A minute and a half of three voices; another reads ten sentences that are in no label.
CORPUS = CorpusSize(training=14, labelled=14, words=3, development=10, test=2)
SIZE = TrainingSize(finetuning_updates=40, finetuning_seconds=5.0)


def test_a_minute_of_labels_is_enough_to_begin_to_spell(tmp_path: Path) -> None:
    """The same run with both, to the end, on a voice that neither has heard: of the letters one has begun to write a
    good part, the other next to none."""
    errors = {}
    with few_voices():
        make_corpus(tmp_path / "corpus", CORPUS, seed=1)
        for name, checkpoint in (("pretrained", wav2vec2.checkpoint(CHECKPOINT)), ("scratch", None)):
            run = finetuning_run(Corpus(tmp_path / "corpus"), checkpoint, tmp_path / name, SIZE, seed=1)
            run.run.evaluate_every, run.run.report = SIZE.finetuning_updates, False
            last = [line for line in read_log(finetune(run)) if line["kind"] == "evaluation"][-1]
            assert last["update"] == SIZE.finetuning_updates
            errors[name] = last["cer"]
    assert errors["pretrained"] < 0.9
    assert errors["scratch"] > 1.1 * errors["pretrained"]
