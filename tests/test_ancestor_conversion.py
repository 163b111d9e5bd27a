"""Files of fairseq's wav2vec and vq-wav2vec become ours and come back bit by bit; what does not fit is refused."""

import logging
import os
from argparse import Namespace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq_ancestors import GUMBEL, KMEANS, LARGE, SMALL, Ancestor, layers, randomised
from torch import Tensor

from wav2vec2 import Wav2Vec2FeatureExtractor, convert_checkpoint
from wav2vec2.baselines import VQWav2VecConfig, VQWav2VecModel, Wav2VecConfig, Wav2VecModel, presets
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.converters.ancestors import config_of, parameters_of, settings_of, to_fairseq, to_ours

#: What a settings file may say otherwise, each with the model that it makes.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"skip_connections_feat": True, "no_conv_bias": True, "non_affine_group_norm": False},
    {"skip_connections_agg": False, "combine_groups": False, "vq_depth": 1, "vq_dim": 8, "offset": "2"},
    {"balanced_classes": True, "dropout": 0.1, "dropout_features": 0.2, "dropout_agg": 0.3, "vq_groups": 4},
]


@pytest.mark.parametrize("variant", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", list(SMALL))
def test_there_and_back_is_bit_equal(kind: str, variant: dict[str, Any], tmp_path: Path) -> None:
    """Through files: fairseq's to a folder, and the folder to a file again; names, bits and what the settings mean."""
    settings = SMALL[kind] | variant
    tensors = {name: one.float() for name, one in randomised(settings, seed=len(str(variant))).state_dict().items()}
    torch.save({"args": Namespace(**settings), "model": tensors, "optimizer_history": []}, tmp_path / "theirs.pt")
    convert_checkpoint(tmp_path / "theirs.pt", tmp_path / "ours")
    convert_checkpoint(tmp_path / "ours", tmp_path / "back", "fairseq")
    with torch.serialization.safe_globals([Namespace]):
        back = torch.load(tmp_path / "back" / "checkpoint.pt", weights_only=True)
    assert back["model"].keys() == tensors.keys()
    assert all(torch.equal(back["model"][name], one) and one.dtype == torch.float32 for name, one in tensors.items())
    assert config_of(vars(back["args"])).to_dict() == config_of(settings).to_dict()
    again = vars(back["args"])
    written_otherwise = {"conv_feature_layers", "conv_aggregator_layers", "vq_temp", "vq_dim", "loss_weights"}
    of_quantizers = {name for name in settings if kind == "wav2vec" and name.startswith(("vq_", "combine"))}
    for name in settings.keys() - written_otherwise - of_quantizers:
        assert str(again[name]) == str(settings[name]), name
    for name in ("conv_feature_layers", "conv_aggregator_layers"):
        assert layers(again[name]) == layers(settings[name])


@pytest.mark.parametrize(
    ("settings", "preset"), [(LARGE, "wav2vec_large"), (GUMBEL, "vq_wav2vec"), (KMEANS, "vq_wav2vec_kmeans")]
)
def test_the_published_models_are_the_presets(settings: dict[str, Any], preset: str) -> None:
    """Names and shapes of the files, typed by hand in part, are those of torch's own layers under fairseq's names."""
    config = config_of(settings)
    assert config.to_dict() == getattr(presets, preset)().to_dict()
    with torch.device("meta"):
        theirs = {name: tuple(one.shape) for name, one in Ancestor(settings).state_dict().items()}
    assert {one.theirs: one.shape for one in parameters_of(config)} == theirs
    assert theirs["feature_extractor.conv_layers.0.0.weight"] == (512, 1, 10)
    assert theirs["feature_aggregator.conv_layers.11.1.weight"] == (512, 512, 13)
    assert theirs["feature_aggregator.conv_layers.11.3.bias"] == (512,)
    assert theirs["wav2vec_predictions.project_to_steps.weight"] == (512, 512, 1, 12)
    of_quantizer = {name.removeprefix("vector_quantizer."): s for name, s in theirs.items() if "quantizer" in name}
    if preset == "wav2vec_large":
        assert of_quantizer == {}
    elif preset == "vq_wav2vec":
        assert of_quantizer == {
            "vars": (1, 320, 256),
            "weight_proj.0.0.weight": (1024, 512),
            "weight_proj.0.0.bias": (1024,),
            "weight_proj.1.weight": (640, 1024),
            "weight_proj.1.bias": (640,),
        }
    else:
        assert of_quantizer == {
            "embedding": (320, 1, 256),
            "projection.0.weight": (512, 256, 1),
            "projection.1.weight": (512,),
            "projection.1.bias": (512,),
        }


@pytest.mark.parametrize("kind", list(SMALL))
def test_a_converted_folder_gives_the_features_of_the_file(kind: str, tmp_path: Path) -> None:
    slow = randomised(SMALL[kind])
    tensors = {name: one.float() for name, one in slow.state_dict().items()}
    torch.save({"args": Namespace(**SMALL[kind]), "model": tensors}, tmp_path / "theirs.pt")
    convert_checkpoint(tmp_path / "theirs.pt", tmp_path / "ours")
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "ours")
    clips = [torch.randn(n, dtype=torch.float64) for n in (3000, 2000)]
    inputs = extractor([clip.numpy() for clip in clips], sampling_rate=16000, padding=True, return_tensors="pt")
    model = (Wav2VecModel if kind == "wav2vec" else VQWav2VecModel).from_pretrained(tmp_path / "ours").eval()
    output = model(**inputs)
    for row, clip in enumerate(clips):
        heard = slow.hear(clip)
        frames = heard["c"].shape[1]
        torch.testing.assert_close(
            output.last_hidden_state[row, :frames].double(), heard["c"].T, rtol=1e-4, atol=1e-4, msg="the clip as it is"
        )
        if kind != "wav2vec":
            assert torch.equal(output.codes[row, :frames], heard["codes"])


def test_tensors_are_not_touched_and_may_be_anything_that_has_a_shape() -> None:
    class Stored:
        def __init__(self, shape: tuple[int, ...]) -> None:
            self.shape = shape

    stored = {one.theirs: Stored(one.shape) for one in parameters_of(config_of(KMEANS))}
    config, ours = to_ours(stored, KMEANS)
    assert ours["wav2vec.quantizer.codevectors"] is stored["vector_quantizer.embedding"]
    back, settings = to_fairseq(ours, config)
    assert back == stored and settings["vq_type"] == "kmeans"


def test_what_is_missing_left_over_or_misshapen_is_listed() -> None:
    tensors: dict[str, Tensor] = dict(Ancestor(SMALL["kmeans"]).state_dict())
    del tensors["feature_extractor.conv_layers.0.2.bias"]
    tensors["feature_extractor.conv_layers.9.0.weight"] = torch.zeros(1)
    tensors["vector_quantizer.embedding"] = torch.zeros(5, 2, 4)
    with pytest.raises(CheckpointError) as error:
        to_ours(tensors, SMALL["kmeans"])
    assert str(error.value).splitlines() == [
        "tensors and settings do not fit:",
        "  feature_extractor.conv_layers.0.2.bias: missing",
        "  feature_extractor.conv_layers.9.0.weight: not part of the model that the settings describe",
        "  vector_quantizer.embedding: (5, 2, 4), where the settings say (5, 1, 4)",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"aggregator": "gru"}, "a model of another kind, which is not supported: aggregator='gru'"),
        ({"project_features": "same"}, "project_features='same'"),
        ({"conv_aggregator_layers": "[(8, 2, 2)]"}, "all strides must be 1"),
        ({"conv_feature_layers": "__import__('os').system('true')"}, "must be a list"),
        ({"conv_feature_layers": "[(8, 2)]"}, r"must be a list of \(width, kernel size, stride\)"),
        ({"conv_feature_layers": "[(8, 2, 1)] * 10 ** 9"}, "must be a list"),
        ({"conv_feature_layers": "(" * 5000}, "must be a list"),
        ({"conv_feature_layers": "[(1" + "0" * 30 + ", 2, 1)]"}, "no model can have these settings"),
        ({"vq_depth": 10**9}, "vq_depth=1000000000: must be at most 200"),
        ({"vq_temp": "(2, 1)"}, "vq_temp='(2, 1)': must be a list of 3".replace("(", r"\(").replace(")", r"\)")),
        ({"vq_type": "other"}, "quantizer='other': must be"),
        ({"offset": "far"}, "offset='far': must be a number of frames, or auto"),
        ({"residual_scale": "half"}, "residual_scale"),
        ({"activation": torch.zeros(3)}, None),  # what is no setting is left out
    ],
)
def test_settings_that_cannot_be_had_are_one_clear_error(changes: dict[str, Any], told: str | None) -> None:
    settings = SMALL["gumbel"] | changes
    if told is None:
        assert config_of(settings).activation == "relu"
        return
    with pytest.raises(CheckpointError, match=told):
        parameters_of(config_of(settings))


def test_what_changed_its_default_must_be_said() -> None:
    """Off by default in 2019, on by default since 2020: to guess would give features of another model."""
    without = {name: value for name, value in LARGE.items() if name not in ("log_compression", "skip_connections_agg")}
    with pytest.raises(
        CheckpointError, match="do not say log_compression, skip_connections_agg, whose default changed"
    ):
        config_of(without)


def test_an_objective_that_is_not_ours_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "wav2vec2"):
        config_of(LARGE | {"infonce": True, "cross_sample_negatives": 0})
    assert "trained with infonce=True: going on from it here uses the objective of the paper" in caplog.text
    with pytest.raises(CheckpointError, match="activation='silu': fairseq has relu and gelu"):
        settings_of(Wav2VecConfig(activation="silu"))
    assert isinstance(config_of(settings_of(VQWav2VecConfig(prediction_offset=1))), VQWav2VecConfig)


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"a": torch.zeros(1)}, "args": Harmful()},
        {"model": {"a": Harmful()}, "args": Namespace()},
        {"model": {"a": 1}, "args": Namespace()},
        {"model": {"a": torch.zeros(1)}},
        [1, 2],
        {"model": {"a": torch.zeros(1)}, "args": Decimal(1)},
    ],
    ids=["code in the settings", "code among the tensors", "no tensor", "no settings", "a list", "another class"],
)
def test_a_file_that_is_something_else_is_refused_and_runs_nothing(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"file\.pt"):
        convert_checkpoint(tmp_path / "file.pt", tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.pt"]


@pytest.mark.slow
def test_damaged_files_give_one_error(tmp_path: Path) -> None:
    tensors = dict(Ancestor(SMALL["wav2vec"]).state_dict())
    torch.save({"args": Namespace(**SMALL["wav2vec"]), "model": tensors}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for number in range(60):
        place, value, cut = (int(torch.randint(n, (), generator=generator)) for n in (len(whole), 256, 4))
        damaged = bytearray(whole[: place if cut == 0 else None])
        if cut:
            damaged[place] = value
        (tmp_path / "damaged.pt").write_bytes(damaged)
        try:
            convert_checkpoint(tmp_path / "damaged.pt", tmp_path / f"ours{number}")
        except CheckpointError:
            refused += 1
    assert refused > 10
    with pytest.raises(CheckpointError, match="no such file"):
        convert_checkpoint(tmp_path / "nothing.pt", tmp_path / "ours")


def test_only_fairseq_has_them(tmp_path: Path) -> None:
    tensors = dict(Ancestor(SMALL["wav2vec"]).state_dict())
    torch.save({"args": Namespace(**SMALL["wav2vec"]), "model": tensors}, tmp_path / "whole.pt")
    with pytest.raises(ValueError, match="in transformers and fairseq alone, not in torchaudio"):
        convert_checkpoint(tmp_path / "whole.pt", tmp_path / "ours", "torchaudio")
    with pytest.raises(ValueError, match="leave out dictionary, config, normalize and language"):
        convert_checkpoint(tmp_path / "whole.pt", tmp_path / "ours", normalize=True)
    assert not (tmp_path / "ours").exists()
