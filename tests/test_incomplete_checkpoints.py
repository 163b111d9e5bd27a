"""Nothing is missing, left over or of another shape without a word, and nothing that must be there may be missing."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_folders import DIRECTION, GAIN, Tensors, drop, logits, old_names, small_model, write, write_shards
from stock_twins import scatter_weights, stock_config

import wav2vec2
from wav2vec2 import CheckpointError, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2ForSequenceClassification

pytestmark = pytest.mark.slow


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this package logged."""
    return [record.getMessage() for record in caplog.records if record.name == "wav2vec2"]


NEEDED = [
    "wav2vec2.feature_extractor.conv_layers.0.layer_norm.bias",
    "wav2vec2.feature_extractor.conv_layers.3.conv.weight",
    "wav2vec2.feature_projection.projection.weight",
    "wav2vec2.encoder.pos_conv_embed.conv.bias",
    f"wav2vec2.{GAIN}",
    f"wav2vec2.{DIRECTION}",
    "wav2vec2.encoder.layers.2.attention.k_proj.bias",
    "wav2vec2.encoder.layer_norm.weight",
]


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_tensor_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    """One lost tensor is enough."""
    folder = write(tmp_path, small_model(), drop(name))
    with pytest.raises(CheckpointError, match=rf"{name}: missing") as error:
        Wav2Vec2ForCTC.from_pretrained(folder)
    assert str(folder) in str(error.value) and "Wav2Vec2ForCTC" in str(error.value)


def test_all_missing_tensors_are_named_at_once(tmp_path: Path) -> None:
    """Nobody has to find them one by one."""
    folder = write(tmp_path, small_model(), drop(*NEEDED))
    with pytest.raises(CheckpointError) as error:
        Wav2Vec2ForCTC.from_pretrained(folder)
    assert all(f"{name}: missing" in str(error.value) for name in NEEDED)


@pytest.mark.parametrize("lost", ["weight_g", "weight_v"])
def test_half_of_a_weight_norm_is_an_error(lost: str, tmp_path: Path) -> None:
    """A direction without its gain is no folded weight: the gain was learned, and is lost."""

    def change(tensors: Tensors) -> None:
        old_names(tensors)
        del tensors[f"wav2vec2.encoder.pos_conv_embed.conv.{lost}"]

    folder = write(tmp_path, small_model(), change)
    with pytest.raises(CheckpointError, match="pos_conv_embed"):
        Wav2Vec2ForCTC.from_pretrained(folder)


def test_a_missing_shard_is_an_error_that_names_its_file(tmp_path: Path) -> None:
    """The index says that it should be there."""
    shards = write_shards(tmp_path, small_model())
    shards[1].unlink()
    with pytest.raises(OSError, match=shards[1].name):
        Wav2Vec2ForCTC.from_pretrained(tmp_path)


FRESH_HEADS = [
    ("Wav2Vec2ForCTC", ["lm_head.bias", "lm_head.weight"]),
    ("Wav2Vec2ForSequenceClassification", ["classifier.weight", "projector.bias"]),
    ("Wav2Vec2ForAudioFrameClassification", ["classifier.bias"]),
    ("Wav2Vec2ForXVector", ["objective.weight", "tdnn.1.kernel.weight", "feature_extractor.bias", "classifier.weight"]),
    ("Wav2Vec2ForPreTraining", ["quantizer.codevectors", "project_q.bias", "project_hid.weight"]),
]


@pytest.mark.parametrize(("head", "names"), FRESH_HEADS)
def test_a_new_head_starts_afresh_and_is_named(
    head: str, names: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A head on a pretrained body: every new tensor is initialised and listed, the body is as saved."""
    body = small_model("Wav2Vec2Model")
    folder = write(tmp_path, body)
    model, info = getattr(wav2vec2, head).from_pretrained(
        folder, output_loading_info=True, use_weighted_layer_sum=head != "Wav2Vec2ForCTC"
    )
    fresh = {name for name in model.state_dict() if not name.startswith("wav2vec2.")}
    assert info["missing_keys"] == fresh and fresh >= set(names)
    (line,) = heard(caplog)
    assert "starts afresh" in line and str(folder) in line
    assert all(name in line for name in fresh)
    assert all(torch.equal(model.state_dict()[f"wav2vec2.{name}"], t) for name, t in body.state_dict().items())
    for name in fresh:
        tensor = model.state_dict()[name]
        assert torch.isfinite(tensor).all() and tensor.abs().max() < 10, name


def test_a_new_ctc_head_on_a_pretraining_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Fine-tuning starts here: the head is new, the quantizer is of no use, and both are said."""
    folder = write(tmp_path, small_model("Wav2Vec2ForPreTraining"))
    model = Wav2Vec2ForCTC.from_pretrained(folder, vocab_size=40)
    new, unused = heard(caplog)
    assert "starts afresh" in new and "lm_head.weight" in new and "wav2vec2." not in new.split(": ", 2)[2]
    assert "not part of this model" in unused and "quantizer.codevectors" in unused and "project_q.weight" in unused
    assert model.lm_head.weight.shape == (40, 48)
    assert model.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.1) and not model.lm_head.bias.any()


@pytest.mark.parametrize("name", ["lm_head.weight", "lm_head.bias"])
def test_half_a_head_is_an_error(name: str, tmp_path: Path) -> None:
    """What is there of it came from somewhere; the rest is lost."""
    folder = write(tmp_path, small_model(), drop(name))
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        Wav2Vec2ForCTC.from_pretrained(folder)


def test_half_a_quantizer_is_an_error(tmp_path: Path) -> None:
    """Continued pretraining without the codebooks would be another pretraining."""
    folder = write(tmp_path, small_model("Wav2Vec2ForPreTraining"), drop("quantizer.codevectors"))
    with pytest.raises(CheckpointError, match=r"quantizer\.codevectors: missing"):
        Wav2Vec2ForPreTraining.from_pretrained(folder)


def test_new_language_adapters_start_afresh_and_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Adding adapters to a checkpoint without them is the start of adapter training; half of them is an error."""
    folder = write(tmp_path / "without", small_model(variant="large_lv60k"))
    model = Wav2Vec2ForCTC.from_pretrained(folder, adapter_attn_dim=6)
    (line,) = heard(caplog)
    adapters = [name for name in model.state_dict() if ".adapter_layer." in name]
    assert len(adapters) == 18 and all(name in line for name in adapters)
    assert all(torch.isfinite(model.state_dict()[name]).all() for name in adapters)
    lost = "wav2vec2.encoder.layers.1.adapter_layer.linear_1.weight"
    folder = write(tmp_path / "half", small_model(variant="mms"), drop(lost))
    with pytest.raises(CheckpointError, match=f"{lost}: missing"):
        Wav2Vec2ForCTC.from_pretrained(folder)


@pytest.mark.parametrize("head", ["Wav2Vec2Model", "Wav2Vec2ForCTC"])
def test_a_new_mask_embedding_is_drawn_and_named(head: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Checkpoints of stock's without masking have none; ours is then uniform in [0, 1)."""
    config = stock_config(mask_time_prob=0.0, hidden_size=480)
    scatter_weights(getattr(transformers, head)(config)).save_pretrained(tmp_path)
    model = getattr(wav2vec2, head).from_pretrained(tmp_path)
    (line,) = heard(caplog)
    assert "starts afresh" in line and "masked_spec_embed" in line
    embedding = model.base_model.masked_spec_embed.detach()
    assert 0 <= embedding.min() < 0.05 and 0.95 < embedding.max() < 1
    assert embedding.mean().item() == pytest.approx(0.5, abs=0.06)


def test_a_new_strided_adapter_starts_afresh_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Convolutions behind a Transformer that had none."""
    folder = write(tmp_path, small_model("Wav2Vec2Model"))
    model = wav2vec2.Wav2Vec2Model.from_pretrained(folder, add_adapter=True, output_hidden_size=20)
    (line,) = heard(caplog)
    names = [name for name in model.state_dict() if name.startswith("adapter.")]
    assert len(names) == 10 and all(name in line for name in names)
    assert all(torch.isfinite(model.state_dict()[name]).all() for name in names)


def test_unexpected_tensors_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are of no use here, and somebody should know."""

    def change(tensors: Tensors) -> None:
        tensors["wav2vec2.encoder.surplus.weight"] = torch.ones(3)
        tensors["another_head.bias"] = torch.ones(3)

    model = small_model()
    loaded, info = Wav2Vec2ForCTC.from_pretrained(write(tmp_path, model, change), output_loading_info=True)
    assert info["unexpected_keys"] == {"wav2vec2.encoder.surplus.weight", "another_head.bias"}
    (line,) = heard(caplog)
    assert "not part of this model" in line
    assert "another_head.bias" in line and "wav2vec2.encoder.surplus.weight" in line
    assert torch.equal(logits(loaded), logits(model))


def test_a_missing_tensor_beside_an_unexpected_one_names_both(tmp_path: Path) -> None:
    """A tensor under a wrong name is easier to find with its right name beside it."""

    def change(tensors: Tensors) -> None:
        tensors["wav2vec2.encoder.norm.weight"] = tensors.pop("wav2vec2.encoder.layer_norm.weight")

    with pytest.raises(CheckpointError) as error:
        Wav2Vec2ForCTC.from_pretrained(write(tmp_path, small_model(), change))
    assert "wav2vec2.encoder.layer_norm.weight: missing" in str(error.value)
    assert "not used: wav2vec2.encoder.norm.weight" in str(error.value)


OTHER_SHAPES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"vocab_size": 40}, "lm_head.weight", "(32, 48)", "(40, 48)"),
    ({"intermediate_size": 32}, "wav2vec2.encoder.layers.0.feed_forward.output_dense.weight", "(48, 64)", "(48, 32)"),
    ({"num_conv_pos_embeddings": 8}, f"wav2vec2.{GAIN}", "(1, 1, 16)", "(1, 1, 8)"),
]


@pytest.mark.parametrize(("fields", "name", "saved", "wanted"), OTHER_SHAPES)
def test_shapes_that_do_not_fit_are_both_named(
    fields: dict[str, Any], name: str, saved: str, wanted: str, tmp_path: Path
) -> None:
    """What the file has, what the model has, and how to go on if that is meant; stock raises a `RuntimeError`."""
    folder = write(tmp_path, small_model())
    assert all(issubclass(CheckpointError, kind) for kind in (RuntimeError, OSError, ValueError))
    with pytest.raises(CheckpointError) as error:
        Wav2Vec2ForCTC.from_pretrained(folder, **fields)
    assert f"{name}: {saved} in the checkpoint, {wanted} in the model" in str(error.value)
    assert "ignore_mismatched_sizes=True" in str(error.value)


def test_other_shapes_can_be_allowed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`ignore_mismatched_sizes=True` starts what does not fit afresh, names it, and keeps the rest."""
    model = small_model()
    folder = write(tmp_path, model)
    loaded, info = Wav2Vec2ForCTC.from_pretrained(
        folder, vocab_size=4000, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {name for name, *_ in info["mismatched_keys"]} == {"lm_head.weight", "lm_head.bias"}
    (line,) = heard(caplog)
    assert "another shape" in line and "lm_head.bias" in line and "lm_head.weight" in line
    assert loaded.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.02) and not loaded.lm_head.bias.any()
    body = loaded.wav2vec2.state_dict()
    assert all(torch.equal(body[name], tensor) for name, tensor in model.wav2vec2.state_dict().items())


def test_allowing_other_shapes_does_not_allow_missing_tensors(tmp_path: Path) -> None:
    """The one has nothing to do with the other."""
    folder = write(tmp_path, small_model(), drop("wav2vec2.encoder.layer_norm.bias"))
    with pytest.raises(CheckpointError, match=r"encoder\.layer_norm\.bias: missing"):
        Wav2Vec2ForCTC.from_pretrained(folder, vocab_size=40, ignore_mismatched_sizes=True)


def test_the_number_of_labels_can_be_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another task with the same kind of head, as stock allows it."""
    folder = write(tmp_path, small_model("Wav2Vec2ForSequenceClassification", num_labels=3))
    with pytest.raises(CheckpointError, match="classifier"):
        Wav2Vec2ForSequenceClassification.from_pretrained(folder, num_labels=5)
    model = Wav2Vec2ForSequenceClassification.from_pretrained(folder, num_labels=5, ignore_mismatched_sizes=True)
    assert model.classifier.weight.shape == (5, 16) and "classifier.weight" in heard(caplog)[-1]
