"""Networks on log-mel energies on the one training loop: what they learn is transcribed, resumed and described."""

from pathlib import Path
from typing import Any

import pytest
import torch
from classification_runs import tone, tones
from finetuning_runs import labelled_recipe, train, write_spoken_tones
from pretraining_runs import log
from safetensors.torch import load_file
from training_audio import RATE

from wav2vec2 import Transcriber
from wav2vec2.baselines import CRNNConfig, CRNNForCTC, SpectrogramModel
from wav2vec2.inference.labeller import Labeller
from wav2vec2.inference.streaming.streaming_recogniser import StreamingRecogniser
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.model_card import CardFacts, card_text
from wav2vec2.training import starting
from wav2vec2.training.classification import classify, last_evaluation, read_classification
from wav2vec2.training.model_making import require_checkpoint
from wav2vec2.training.run_output import StartError
from wav2vec2.training.settings.recipes import RunConfigError, from_dict, read_run
from wav2vec2.training.settings.run_config import FinetuneRun, ModelSection, PretrainRun, to_dict

pytestmark = pytest.mark.slow

TEXTS = ["ab cd", "fade", "abba"]
NETWORKS: dict[str, dict[str, Any]] = {
    "crnn": {"channels": 6, "hidden_size": 32, "num_layers": 1},
    "time_frequency_lstm": {"piece_step": 12, "frequency_size": 8, "hidden_size": 32, "num_layers": 1},
}


def network_recipe(folder: Path, audio: Path, kind: str, valid: Path | None = None, **more: Any) -> dict[str, Any]:
    values = labelled_recipe(folder, audio, valid, **more)
    values["model"] = {
        "preset": kind,
        "config": NETWORKS[kind] | {"num_mel_bins": 40, "time_masks": 0, "band_masks": 0},
    }
    return values


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spoken_tones(tmp_path_factory.mktemp("spoken"), TEXTS)


@pytest.fixture(scope="module", params=list(NETWORKS))
def learned(request: pytest.FixtureRequest, spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three texts of tones, learnt by heart."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    updates = 40
    often: dict[str, Any] = {"run__updates": updates, "run__evaluate_every": updates, "run__log_every": 20}
    often |= {"optimizer__learning_rate": 2e-2, "schedule__warmup": 0.1, "optimizer__clip_norm": 1.0}
    train(network_recipe(folder, spoken, request.param, spoken, **often))
    return folder


def test_what_is_learnt_is_transcribed(learned: Path, spoken: Path) -> None:
    """Alone and side by side; letters come about where their tones are."""
    (evaluation,) = [line for line in log(learned) if line["kind"] == "evaluation"]
    assert evaluation["wer"] == 0.0
    paths = [spoken.parent / f"tones{number}.wav" for number in range(len(TEXTS))]
    transcriber = Transcriber.from_pretrained(learned / "model", device="cpu")
    assert isinstance(transcriber.model, SpectrogramModel)
    together: Any = transcriber.transcribe(paths)
    assert [one.text for one in together] == TEXTS
    alone: Any = [transcriber.transcribe(path) for path in paths]
    for one, other in zip(together, alone, strict=True):
        assert one.text == other.text and [w.start for w in one.words] == [w.start for w in other.words]
    for word, text in zip(together[0].words, ["ab", "cd"], strict=True):
        begin = 0.16 * (1 + TEXTS[0].index(text))  # of silence and letters before it
        assert begin - 0.2 < word.start < word.end < begin + 0.32 + 0.2
    log_probs, seconds = transcriber.log_probs(paths[0])
    assert len(log_probs) == transcriber.model._get_feat_extract_output_lengths(round(seconds * RATE))


def test_its_card_says_what_it_is_and_a_stream_refuses_it(learned: Path) -> None:
    card = card_text(learned / "model", CardFacts(license="mit"), None, {}, "someone/network")
    assert "on log-mel energies that turns speech into text (CTC)" in card and "wav2vec 2.0 model" not in card
    assert "Transformers alone does not know this kind of model" in card
    with pytest.raises(ValueError, match="ForCTC; only a Wav2Vec2ForCTC writes text here"):
        StreamingRecogniser.from_pretrained(learned / "model", device="cpu")


def test_another_run_goes_on_from_it_with_its_head(
    learned: Path, spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What its weights were trained for stays, and after one update of nothing it spells as before."""
    values = labelled_recipe(tmp_path / "run", spoken, spoken, run__updates=1, run__evaluate_every=1)
    values["model"] = {"checkpoint": str(learned / "model"), "config": {"hop_length": 160, "band_masks": 0}}
    values["optimizer"]["learning_rate"] = 1e-9
    train(values)
    (evaluation,) = [line for line in log(tmp_path / "run") if line["kind"] == "evaluation"]
    assert evaluation["wer"] == 0.0
    told = " ".join("".join(capsys.readouterr()).split())
    assert "nothing starts afresh: the head is kept" in told
    assert "model.config.hop_length=160 is not used: the checkpoint was trained with 320" in told
    values["run"] |= {"output": str(tmp_path / "held")}
    values["tuning"] = {"freeze_updates": 3}
    with pytest.raises(StartError, match=r"tuning\.freeze_updates: is for wav2vec 2\.0 alone"):
        train(values)
    values["model"] = {"checkpoint": str(learned / "model"), "config": {"hidden_dropout": 0.5}}
    with pytest.raises(OSError, match="has no field hidden_dropout"):
        train(values)


def test_stopped_and_resumed_is_bit_equal(spoken: Path, tmp_path: Path) -> None:
    """The moments of batch norm too, and masks, which follow from the seeds of clips."""
    often: dict[str, Any] = {"run__save_every": 2, "schedule__kind": "constant", "schedule__warmup": 0.0}
    weights = []
    for name, stops in (("straight", [4]), ("stopped", [2, 4])):
        for updates in stops:
            values = network_recipe(tmp_path / name, spoken, "crnn", **often, run__updates=updates)
            values["model"]["config"] |= {"time_masks": 2, "num_layers": 2, "dropout": 0.3}
            train(values)
        weights.append(load_file(tmp_path / name / "model" / "model.safetensors"))
    straight, stopped = weights
    assert straight.keys() == stopped.keys() and any(name.endswith("running_var") for name in straight)
    assert all(torch.equal(tensor, stopped[name]) for name, tensor in straight.items())


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("depthwise_cnn", "{first_channels: 8, layer_channels: [16, 16], layer_strides: [2, 2]}"),
        ("crnn", "{channels: 6, hidden_size: 32, num_layers: 1, time_masks: 0, band_masks: 0}"),
    ],
)
def test_tones_are_told_apart(kind: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tones that were not trained on; and another run keeps the layer of the labels."""
    monkeypatch.setattr(starting, "matmul_peak", lambda *_: 1e9)
    train_on, valid = tones(tmp_path / "train", 8, 0), tones(tmp_path / "valid", 3, 1000)
    given = [f"data.train.0.path={train_on}", f"data.valid.0.path={valid}", "run.precision=fp32", "run.report=false"]
    given += ["data.workers=0", "data.min_seconds=0.1", "data.max_seconds=4", "data.seconds_per_update=8"]
    given += ["data.seconds_per_batch=8"]
    fresh = [f"model.preset={kind}", f"model.config={network}", "optimizer.learning_rate=1e-2"]
    fresh += ["run.updates=20", "run.evaluate_every=20", f"run.output={tmp_path / 'run'}"]
    output = classify(read_classification("clips", [*given, *fresh]))
    assert last_evaluation(output)["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    found: Any = Labeller.from_pretrained(output / "model", device="cpu").label(tone(700.0, 0.5, 77), RATE)
    assert max(found.probabilities, key=found.probabilities.get) == "middle"
    more = [f"model.checkpoint={output / 'model'}", "run.updates=1", "run.evaluate_every=1"]
    more += ["optimizer.learning_rate=1e-9", f"run.output={tmp_path / 'again'}"]
    assert last_evaluation(classify(read_classification("clips", [*given, *more])))["accuracy"] == 1.0


def test_what_the_networks_do_not_have_is_refused_before_anything_starts(spoken: Path, tmp_path: Path) -> None:
    here = [f"data.train.0.path={spoken}", f"run.output={tmp_path / 'run'}"]
    asked = ["tuning.keep_features=memory", "run.compile=true", "tuning.freeze_updates=5"]
    with pytest.raises(RunConfigError) as error:
        read_run(FinetuneRun, "ctc_crnn", [*here, *asked, "streaming={share: 0.5}"])
    keys = ("tuning.freeze_updates=", "tuning.keep_features=", "run.compile=", "streaming=")
    for problem, key in zip(error.value.problems, keys, strict=True):
        assert problem.startswith(key) and "is for wav2vec 2.0 alone: this network" in problem
    with pytest.raises(RunConfigError, match="hidden_dropout=0.2 .*: is no field of CRNNConfig"):
        read_run(FinetuneRun, "ctc_crnn", [*here, "model.config.hidden_dropout=0.2"])
    with pytest.raises(RunConfigError, match="model.preset='crnn' .*: is a network that learns from transcripts"):
        read_run(PretrainRun, None, [*here, "model.preset=crnn"])
    CRNNForCTC(CRNNConfig(channels=2, hidden_size=4)).save_pretrained(tmp_path / "crnn")
    with pytest.raises(CheckpointError, match="is a crnn model, which learns from transcripts or labels alone"):
        require_checkpoint(ModelSection(checkpoint=str(tmp_path / "crnn")), with_head=False)
    run = read_run(FinetuneRun, "ctc_crnn", here)
    assert to_dict(from_dict(FinetuneRun, to_dict(run))) == to_dict(run)
    run = read_run(FinetuneRun, "ctc_crnn", [*here, "model.preset=depthwise_cnn", "data.on_problems=warn"])
    with pytest.raises(StartError, match="a depthwise-cnn model gives labels to whole clips and writes no text"):
        train(to_dict(run))
    given = [f"data.train.0.path={tones(tmp_path / 'tones', 2, 0)}", f"run.output={tmp_path / 'no'}"]
    with pytest.raises(StartError, match="task=clips: a time-frequency-lstm model does not learn that"):
        classify(read_classification("clips", [*given, "model.preset=time_frequency_lstm", "data.min_seconds=0.1"]))
