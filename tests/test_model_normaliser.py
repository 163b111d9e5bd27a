"""References in the form that the model was trained on: what a run counts as right is right in `wav2vec2 evaluate`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recognition_checkpoints import write_noise
from small_models import CALM, small_config
from torch import Tensor
from typer.testing import CliRunner, Result

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.command_line.app import app
from wav2vec2.evaluation.evaluation import Evaluation
from wav2vec2.evaluation.normalisers import NORMALISERS, normaliser_of, unwritable
from wav2vec2.inference.listener import Listener
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.processor import Wav2Vec2Processor
from wav2vec2.processing.vocabulary import build_vocabulary
from wav2vec2.training.data.audio_clips import LoadedClip
from wav2vec2.training.tasks.ctc_task import CTCTask
from wav2vec2.training.tasks.task import inputs_of

REFERENCES = ("Hello, World! It’s one.", "Good-bye, Bob.", "ÉTÉ, naïve: aaah")
SECONDS = (2.0, 2.5, 3.0)
RATE = 16_000


def tokenizer_for(**choices: Any) -> Wav2Vec2CTCTokenizer:
    return Wav2Vec2CTCTokenizer.from_vocabulary(build_vocabulary(REFERENCES, **choices))


def numbered(letters: str) -> dict[str, int]:
    return {token: number for number, token in enumerate(["<pad>", "<unk>", "|", *letters])}


class Perfect:
    """Log-probabilities (T, V) that say the right labels of the recording of that length, one frame each."""

    def __init__(self, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        labels = [tokenizer(text).input_ids for text in REFERENCES]
        self.blank, self.size = tokenizer.blank_id, len(tokenizer)
        self.labels = {round(RATE * seconds): ids for seconds, ids in zip(SECONDS, labels, strict=True)}

    def says(self, samples: int, frames: int) -> Tensor:
        path = torch.full((frames,), self.blank)
        ids = self.labels[samples]
        path[1 : 1 + 2 * len(ids) : 2] = torch.tensor(ids)
        return torch.nn.functional.one_hot(path, self.size).float().mul(20).log_softmax(-1)


def checkpoint(folder: Path, tokenizer: Wav2Vec2CTCTokenizer) -> Path:
    torch.manual_seed(0)
    config = small_config("base", vocab_size=len(tokenizer), pad_token_id=tokenizer.blank_id, **CALM)
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def evaluated(folder: Path, tokenizer: Wav2Vec2CTCTokenizer, *arguments: str) -> Result:
    """`wav2vec2 evaluate` of a checkpoint with that tokenizer on the three references."""
    lines = ["path\ttranscript"]
    for number, (seconds, text) in enumerate(zip(SECONDS, REFERENCES, strict=True)):
        write_noise(folder / f"{number}.wav", seconds, number)
        lines.append(f"{number}.wav\t{text}")
    (folder / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = checkpoint(folder / "model", tokenizer)
    options = ["--model", str(model), "--data", str(folder / "test.tsv"), "--device", "cpu", "--json"]
    result: Result = CliRunner().invoke(app, ["evaluate", *options, *arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Wav2Vec2CTCTokenizer:
    """With the default choices of a run; every transcriber now recognises perfectly."""
    made = tokenizer_for()
    perfect = Perfect(made)

    def launch(self: Listener, windows: list[Any]) -> Any:
        return SimpleNamespace(read=lambda: [perfect.says(len(one.samples), one.last - one.first) for one in windows])

    monkeypatch.setattr(Listener, "launch", launch)
    return made


def test_a_perfect_recogniser_is_perfect_in_the_run_and_in_evaluate(
    tokenizer: Wav2Vec2CTCTokenizer, tmp_path: Path
) -> None:
    """The run's own word error rate, that of `evaluate` as the documentation calls it, and what is recorded."""
    task = CTCTask(small_config("base", vocab_size=len(tokenizer)), Wav2Vec2FeatureExtractor(), tokenizer, 1)
    task.config.pad_token_id = tokenizer.blank_id
    clips = [
        LoadedClip(str(n), torch.randn(round(RATE * seconds)).numpy(), n, text)
        for n, (seconds, text) in enumerate(zip(SECONDS, REFERENCES, strict=True))
    ]
    inputs = inputs_of(task, clips)
    frames = task.frames(inputs).tolist()
    perfect = Perfect(tokenizer)
    rows = [perfect.says(len(clip.samples), count) for clip, count in zip(clips, frames, strict=True)]
    said, heard = task.texts(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), inputs)
    assert said == heard and "HELLO WORLD IT'S ONE" in (text.upper() for text in said)

    result = evaluated(tmp_path, tokenizer)
    found = Evaluation.from_json(result.stdout)
    assert found.decodings[0].wer.rate == found.decodings[0].cer.rate == 0.0
    assert found.normalizer == "model"
    for choice, value in tokenizer.normalization.to_dict().items():
        assert value == "keep" or f"{choice} {value}" in found.normalizer_steps
    assert "warning" not in result.stderr


def test_references_that_the_model_cannot_write_are_said_loudly(
    tokenizer: Wav2Vec2CTCTokenizer, tmp_path: Path
) -> None:
    """Untreated references make the same perfect model wrong; that, and what would help, is said before the run."""
    result = evaluated(tmp_path, tokenizer, "--normalizer", "none")
    assert Evaluation.from_json(result.stdout).decodings[0].wer.rate > 0.5
    assert "warning: 3 of 3 references hold characters that this model has no token for" in result.stderr
    assert "',' (U+002C) x3" in result.stderr and "--normalizer model leaves 0 of " in result.stderr


def test_a_model_without_choices_is_scored_as_it_is() -> None:
    """As published ones: the treatment is `none`, and upper case against small letters is said."""
    upper = Wav2Vec2CTCTokenizer(numbered("ABCDEH'"))
    treat = normaliser_of("model", upper)
    assert treat is NORMALISERS["none"]
    warning = unwritable(["a bad head", "A BAD DAD"], treat, upper)
    assert warning is not None and warning.startswith("1 of 2 references") and "--normalizer casefold" in warning
    assert unwritable(["a bad head", "A BAD DAD"], normaliser_of("casefold", upper), upper) is None
    assert unwritable(["A BAD DAD"], treat, upper) is None
    left = unwritable(["A BAD 1"], treat, upper)
    assert left is not None and "'1' (U+0031) x1" in left and "--normalizer" not in left


def test_choices_that_only_the_tokenizer_knows() -> None:
    """A lower-casing tokenizer writes small letters; digits that it would refuse are counted, not refused."""
    folding = Wav2Vec2CTCTokenizer(numbered("ABCDE"), do_lower_case=True)
    treat = normaliser_of("model", folding)
    assert treat("A Bad") == "a bad" and "case lower" in treat.steps
    assert unwritable(["A bad CAB"], treat, folding) is None
    refusing = tokenizer_for(digits="refuse")
    assert normaliser_of("model", refusing)("One, 2!").split() == refusing.normalize("One!").split() + ["2"]
    with pytest.raises(ValueError, match="must be one of model, none, casefold, basic"):
        normaliser_of("Model", refusing)
