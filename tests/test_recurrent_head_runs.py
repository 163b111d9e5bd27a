"""Fine-tuning under a recurrent head: alone over a held encoder, in every division, through a kill, on to use."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning_runs import killed_after, labelled_recipe, run, train, write_labelled, write_spoken_tones
from pretraining_runs import assert_same, assert_same_run, log, weights
from update_layouts import LAYOUTS, LENGTHS

from wav2vec2 import Wav2Vec2ForCTC
from wav2vec2.evaluation.evaluation_run import evaluate_manifest, evaluated_model
from wav2vec2.inference.aligning import align_recording
from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.training.finetuning import prepare_finetuning
from wav2vec2.training.settings.recipes import from_dict
from wav2vec2.training.settings.run_config import FinetuneRun

pytestmark = pytest.mark.slow

SENTENCES = ["abeb cab", "dead bef", "face a bad fad"]
HEAD: dict[str, Any] = {"ctc_head": "recurrent", "ctc_head_size": 20}

#: A body that is worth to be held only because three sentences of tones need none that has learned.
BODY: dict[str, Any] = {
    "conv_dim": [24, 32],
    "num_hidden_layers": 3,
    "do_stable_layer_norm": True,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
}


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sentences."""
    return write_spoken_tones(tmp_path_factory.mktemp("tones"), SENTENCES)


@pytest.fixture(scope="module")
def linear(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a linear head that knows little."""
    folder = tmp_path_factory.mktemp("linear") / "run"
    train(labelled_recipe(folder, tones, model__config=BODY, run__updates=2))
    return folder / "model"


@pytest.fixture(scope="module")
def learned(linear: Path, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that cut it after two layers, held them, and learned the sentences with the head alone."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    config = HEAD | {"ctc_head_size": 40, "ctc_head_layers": 1, "ctc_head_dropout": 0.0, "feature_grad_mult": 0.0}
    config["num_hidden_layers"] = 2
    values = labelled_recipe(folder, tones, tones, optimizer__learning_rate=2e-2, optimizer__weight_decay=0.0)
    values["model"] = {"checkpoint": str(linear), "config": config}
    values["data"] |= {"seconds_per_update": 6.0, "max_seconds": 3.0}
    values["tuning"] |= {"freeze_updates": None, "keep_features": "memory"}
    values["schedule"]["warmup"] = 0.1
    values["run"] |= {"updates": 200, "evaluate_every": 100, "save_every": 100, "log_every": 10}
    train(values)
    return folder


def test_the_head_alone_learns_by_heart(learned: Path, linear: Path) -> None:
    """Over a body that does not move."""
    last = log(learned)[-1]
    assert (last["kind"], last["wer"], last["cer"]) == ("evaluation", 0.0, 0.0), last["samples"]
    before, after = (Wav2Vec2ForCTC.from_pretrained(folder).state_dict() for folder in (linear, learned / "model"))
    assert all(torch.equal(t, before[name]) for name, t in after.items() if name.startswith("wav2vec2."))
    assert "recurrent_head.layers.0.backwards.weight_hh_l0" in after


def test_what_was_learned_is_used_everywhere(learned: Path, tones: Path) -> None:
    """Texts by the transcriber; words where they are spoken (a tone lasts 0.16 s); the figures of an evaluation, by
    greedy search and by beam search."""
    transcriber = Transcriber.from_pretrained(learned / "model", device="cpu", beam=8)
    found = evaluate_manifest(transcriber, evaluated_model("learned", transcriber), tones).evaluation
    assert {way.name: way.wer.rate for way in found.decodings} == {"greedy": 0.0, "beam": 0.0}
    files = sorted(tones.parent.glob("*.wav"))
    assert [found.text for found in transcriber.transcribe_each(files)] == SENTENCES
    for file, text in zip(files, SENTENCES, strict=True):
        words, _ = align_recording(transcriber, file, text)
        place = 1
        for word in words:
            assert 0.16 * (place - 1) < (word.start + word.end) / 2 < 0.16 * (place + len(word.text) + 1), word
            place += len(word.text) + 1


def prepared(folder: Path, manifest: Path, checkpoint: Path, seed: int = 1, **config: Any) -> Any:
    values = labelled_recipe(folder, manifest, run__seed=seed)
    values["model"] = {"checkpoint": str(checkpoint), "config": config}
    return prepare_finetuning(from_dict(FinetuneRun, values))


def test_what_starts_afresh_follows_from_the_seed_and_is_said(linear: Path, tones: Path, tmp_path: Path) -> None:
    """Of a linear head with the same tokens nothing is kept, the bias neither."""
    first, again, other = (prepared(tmp_path / "run", tones, linear, seed, **HEAD) for seed in (1, 1, 2))
    assert "starts afresh: recurrent_head and lm_head, the head of 9 tokens" in first.notes
    states = [one.model.state_dict() for one in (first, again, other)]
    new = [name for name in states[0] if not name.startswith("wav2vec2.")]
    assert len(new) == 2 + 2 + 16 + 2
    for name in new:
        assert torch.equal(states[0][name], states[1][name]), name
        constant = name.startswith("recurrent_head.layer_norm") or name == "lm_head.bias"
        assert torch.equal(states[0][name], states[2][name]) == constant, name
    assert states[0]["lm_head.bias"].softmax(0)[0].item() == pytest.approx(0.7, rel=1e-5)


def test_a_head_is_kept_as_a_whole_or_not_at_all(learned: Path, tones: Path, tmp_path: Path) -> None:
    """Also where a stride alone is another: weights would fit that were learned for other frames."""
    before = Wav2Vec2ForCTC.from_pretrained(learned / "model").state_dict()
    others: list[dict[str, Any]] = [{"ctc_head_stride": 1}, {"ctc_head_size": 20}, {"ctc_head": "linear"}]
    for config, kept in (({}, True), *((other, False) for other in others)):
        found = prepared(tmp_path / "run", tones, learned / "model", **config)
        for name, tensor in found.model.state_dict().items():
            same = tensor.shape == before[name].shape and torch.equal(tensor, before[name])
            assert same or not (kept or name.startswith("wav2vec2.")), name
            assert not same or kept or name.startswith(("wav2vec2.", "recurrent_head.layer_norm.")), name
        said = "nothing starts afresh: the head is kept" if kept else "lm_head, the head of 9 tokens"
        assert any(said in note for note in found.notes)


# --- divisions, kills, additions -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 0.9 to 1.3 seconds."""
    return write_labelled(tmp_path_factory.mktemp("labelled") / "clips", LENGTHS)


def recurrent(folder: Path, labelled: Path, layout: str, **overrides: Any) -> dict[str, Any]:
    """Five updates, the first two of the head alone."""
    defaults: dict[str, Any] = {"run__updates": 5, "run__log_every": 1, "data__bucket_updates": 1}
    defaults |= {"data__seconds_per_batch": LAYOUTS[layout][1], "optimizer__epsilon": 1e-6}
    defaults |= {"optimizer__learning_rate": 3e-4, "tuning__freeze_updates": 2, "tuning__keep_features": "memory"}
    config = HEAD | {"ctc_head_dropout": 0.0}
    return labelled_recipe(folder, labelled, **(defaults | {"model__config": config} | overrides))


@pytest.mark.parametrize("masks_at_head", [False, True])
def test_every_division_gives_the_same_weights(labelled: Path, tmp_path: Path, masks_at_head: bool) -> None:
    config = HEAD | {"ctc_head_dropout": 0.0, "ctc_head_masks": masks_at_head, "mask_time_prob": 0.3}
    whole, cut = (
        run(recurrent(tmp_path / layout.replace(" ", ""), labelled, layout, model__config=config), LAYOUTS[layout][0])
        for layout in ("1 x 8", "2 x 2 x 2")
    )
    assert_same(weights(whole), weights(cut), 1e-5)
    for one, other in zip(*map(log, (whole, cut)), strict=True):
        for name in {"loss", "loss_per_label", "blank_share", "dropped", "gradient_norm"} & one.keys():
            assert other[name] == pytest.approx(one[name], rel=1e-5, abs=1e-5), name


def test_killed_and_resumed_is_the_same_run(labelled: Path, tmp_path: Path) -> None:
    """Bit by bit, with dropout."""

    def long(name: str) -> dict[str, Any]:
        many: dict[str, Any] = {"run__updates": 12, "run__save_every": 6, "run__log_every": 4}
        return recurrent(tmp_path / name, labelled, "1 x 2 x 4", **many, model__config=HEAD, tuning__freeze_updates=7)

    whole = run(long("whole"))
    resumed = killed_after(long("resumed"), 8)
    run(long("resumed"))
    assert_same_run(whole, resumed)


def test_sharded_weights_give_the_same(labelled: Path, tmp_path: Path) -> None:
    """FSDP2, which replaces the parameters of layers that keep lists of their own."""
    plain = run(recurrent(tmp_path / "plain", labelled, "2 x 4", tuning__keep_features=None), 2)
    sharded = run(recurrent(tmp_path / "sharded", labelled, "2 x 4", tuning__keep_features=None), 2, "train_sharded")
    assert log(sharded)[0]["distributed"] == "fsdp"
    assert_same(weights(plain), weights(sharded), 1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_additions_of_low_rank_go_with_it(learned: Path, tones: Path, tmp_path: Path) -> None:
    """The head is trained with them; the merged model and PEFT's adapter on the base say the same."""
    from peft import PeftModel

    values = labelled_recipe(tmp_path / "run", tones, run__updates=2)
    values["model"] = {"checkpoint": str(learned / "model")}
    values["tuning"] |= {"method": "lora", "lora_rank": 2}
    train(values)
    base, merged = (Wav2Vec2ForCTC.from_pretrained(f / "model").eval() for f in (learned, tmp_path / "run"))
    sound, start = torch.randn(1, 12000), {name: tensor.clone() for name, tensor in base.state_dict().items()}
    with torch.no_grad():
        before, expected = base(sound).logits, merged(sound).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "run" / "model" / "lora").eval()
        torch.testing.assert_close(adapted(sound).logits, expected, atol=1e-4, rtol=1e-4)
    assert (expected - before).abs().max() > 1e-2
    changed = {name for name, tensor in merged.state_dict().items() if not torch.equal(tensor, start[name])}
    assert {name for name in changed if name.startswith("recurrent_head.layers.")}
    assert all(not name.startswith("wav2vec2.") or ".attention." in name for name in changed)
