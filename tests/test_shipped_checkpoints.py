"""The model that comes with the package: its files and card, its short name, stock Transformers, the wheel."""

import hashlib
import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from typer.testing import CliRunner

import wav2vec2
from wav2vec2.command_line.app import app
from wav2vec2.files import shipped_checkpoints
from wav2vec2.sharing.card_metadata import metadata_problems
from wav2vec2.sharing.publishable_files import Secrets, find_private, select_files
from wav2vec2.training.model_making import make_extractor, make_model, require_checkpoint
from wav2vec2.training.settings.run_sections import ModelSection

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "src" / "wav2vec2" / "checkpoints" / "small"


@pytest.fixture(autouse=True)
def nothing_said_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped_checkpoints, "_SAID", set())
    monkeypatch.chdir(tmp_path)


def folder_of_mine(parent: Path) -> Path:
    """A tiny model in a folder called as the one that comes with the package."""
    config = wav2vec2.Wav2Vec2Config(
        conv_dim=[8] * 7, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    wav2vec2.Wav2Vec2ForPreTraining(config).save_pretrained(parent / "small")
    wav2vec2.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(parent / "small")
    return parent / "small"


# --- its files -----------------------------------------------------------------------------------------------------


def test_weights_are_16_bits_in_pieces_that_any_host_takes() -> None:
    pieces = sorted(SMALL.glob("*.safetensors"))
    assert len(pieces) == 3
    numbers = 0
    for piece in pieces:
        assert piece.stat().st_size < 15e6
        with safe_open(piece, "pt") as stored:
            tensors = [stored.get_tensor(name) for name in stored.keys()]  # noqa: SIM118 (it cannot be iterated)
        assert {tensor.dtype for tensor in tensors} == {torch.float16}
        numbers += sum(tensor.numel() for tensor in tensors)
    assert numbers == 16_348_736


def test_the_card_names_every_weight_file_by_its_checksum() -> None:
    card = (SMALL / "README.md").read_text("utf-8")
    named = dict(map(reversed, re.findall(r"^([0-9a-f]{64})  (\S+)$", card, re.M)))
    assert named == {
        piece.name: hashlib.sha256(piece.read_bytes()).hexdigest() for piece in SMALL.glob("*.safetensors")
    }


def test_the_card_is_one_that_the_hub_takes_and_nothing_private_lies_beside_it() -> None:
    card = (SMALL / "README.md").read_text("utf-8")
    assert metadata_problems(card) == []
    assert "\nlicense: cc-by-sa-4.0\n" in card
    chosen = select_files(SMALL)
    assert chosen.left_out == {}
    assert find_private(SMALL, chosen.files, Secrets()) == []


def test_it_goes_on_at_the_temperature_at_which_it_ended() -> None:
    config = wav2vec2.Wav2Vec2Config.from_pretrained("small")
    assert config.gumbel_temperature(config.pretraining_updates) == 0.5
    assert (config.diversity_loss_weight, config.feature_penalty_weight, config.feature_grad_mult) == (0.5, 1.0, 0.1)


# --- stock Transformers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Wav2Vec2ForPreTraining", "Wav2Vec2ForCTC"])
def test_it_is_loaded_to_be_trained_here_and_in_stock(kind: str) -> None:
    """In float32, although nobody asks for it: a model in 16 bits is not what an optimizer should change."""
    for library in (wav2vec2, transformers):
        assert getattr(library, kind).from_pretrained(wav2vec2.checkpoint("small")).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("do_normalize", [True, False])
def test_outputs_are_stocks(do_normalize: bool) -> None:
    """Of clips alone, as its extractor makes them (normalised) and as they are. In a batch ours are those of the clips,
    and stock's depend on the padding, as with every model whose first norm is over time."""
    folder = wav2vec2.checkpoint("small")
    ours = wav2vec2.Wav2Vec2ForPreTraining.from_pretrained(folder).eval()
    stock = transformers.Wav2Vec2ForPreTraining.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    assert extractor.do_normalize and wav2vec2.Wav2Vec2FeatureExtractor.from_pretrained("small").do_normalize
    extractor.do_normalize = do_normalize
    chance = np.random.default_rng(1)
    for samples in (9_000, 24_000):
        clip = 0.1 * chance.normal(size=samples).astype(np.float32)
        inputs = extractor(clip, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            a, b = ours(**inputs), stock(**inputs)
        for name in ("projected_states", "projected_quantized_states"):
            torch.testing.assert_close(a[name], b[name], atol=2e-4, rtol=1e-3)


# --- its name --------------------------------------------------------------------------------------------------------


def test_the_path_of_a_short_name_is_told_and_others_are_refused_with_a_list() -> None:
    assert wav2vec2.checkpoint("small") == SMALL
    with pytest.raises(ValueError, match=r"'smal' is no model .*: small"):
        wav2vec2.checkpoint("smal")


NAMED: list[Callable[[str], Any]] = [
    wav2vec2.Wav2Vec2Config.from_pretrained,
    wav2vec2.Wav2Vec2FeatureExtractor.from_pretrained,
    wav2vec2.Wav2Vec2Model.from_pretrained,
    wav2vec2.Wav2Vec2ForCTC.from_pretrained,
    lambda name: make_model(wav2vec2.Wav2Vec2ForPreTraining, ModelSection(checkpoint=name), None),
    lambda name: make_extractor(ModelSection(checkpoint=name), True),
    lambda name: require_checkpoint(ModelSection(checkpoint=name)),
]


@pytest.mark.parametrize("load", NAMED)
def test_everything_that_takes_a_name_takes_the_short_one(load: Callable[[str], Any]) -> None:
    load("small")


@pytest.mark.parametrize("load", [one for one in NAMED if one is not NAMED[5]])  # a run without it has its own
def test_an_unknown_name_is_answered_with_those_there_are(load: Callable[[str], Any]) -> None:
    with pytest.raises(OSError) as raised:
        load("smal")
    said = [str(raised.value), *getattr(raised.value, "__notes__", [])]
    assert any("models that come with wav2vec2: small" in line for line in said)
    with pytest.raises(OSError) as raised:
        load("nobody/smal")
    said = [str(raised.value), *getattr(raised.value, "__notes__", [])]
    assert not any("come with wav2vec2" in line for line in said)


def test_runs_train_it_in_float32_and_say_which_it_is() -> None:
    model, missing, notes = make_model(wav2vec2.Wav2Vec2ForPreTraining, ModelSection(checkpoint="small"), None)
    assert model.dtype == torch.float32 and model.config.hidden_size == 384 and missing == []
    assert "model.checkpoint=small: the model that comes with wav2vec2" in notes


def test_a_folder_of_that_name_goes_first_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = folder_of_mine(tmp_path)
    with caplog.at_level(logging.WARNING, "wav2vec2"):
        assert wav2vec2.Wav2Vec2Config.from_pretrained("small").hidden_size == 32
        assert wav2vec2.Wav2Vec2ForPreTraining.from_pretrained("small").config.hidden_size == 32
        assert wav2vec2.Wav2Vec2FeatureExtractor.from_pretrained("small").do_normalize is False
    said = [record.getMessage() for record in caplog.records if "comes with wav2vec2" in record.getMessage()]
    assert len(said) == 1 and str(mine) in said[0] and str(SMALL) in said[0]
    _, _, notes = make_model(wav2vec2.Wav2Vec2ForPreTraining, ModelSection(checkpoint="small"), None)
    assert not any("comes with wav2vec2" in note for note in notes)
    assert wav2vec2.checkpoint("small") == SMALL


def test_a_folder_that_holds_no_model_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """As the output folder of a run that was called so, when the run goes on."""
    (tmp_path / "small" / "checkpoints").mkdir(parents=True)
    assert wav2vec2.Wav2Vec2Config.from_pretrained("small").hidden_size == 384


def test_a_path_object_is_a_path() -> None:
    with pytest.raises(OSError):
        wav2vec2.Wav2Vec2Config.from_pretrained(Path("small"))


@pytest.mark.parametrize(
    ("name", "answer"),
    [("small", "no head for text yet: `wav2vec2 finetune"), ("smal", "models that come with wav2vec2: small")],
)
def test_commands_that_write_text_say_what_to_do_first(tmp_path: Path, name: str, answer: str) -> None:
    (tmp_path / "clip.wav").write_bytes(b"")
    (tmp_path / "test.tsv").write_text("path\ttranscript\nclip.wav\tone\n", "utf-8")
    for command in (["transcribe", "clip.wav"], ["evaluate", "--data", "test.tsv"], ["align", "--data", "test.tsv"]):
        done = CliRunner().invoke(app, [*command, "--model", name, "--output", str(tmp_path / "out")])
        assert done.exit_code == 1 and answer in done.stderr, command


# --- the wheel -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_holds_it(tmp_path: Path) -> None:
    wheels = pytest.importorskip("hatchling.builders.wheel", reason="hatchling, of the extra `dev`, is not installed")
    builder = wheels.WheelBuilder(str(ROOT))
    (built,) = builder.build(directory=str(tmp_path), versions=["standard"])
    inside = {path.name: path.read_bytes() for path in SMALL.iterdir()}
    with zipfile.ZipFile(built) as wheel:
        place = "wav2vec2/checkpoints/small/"
        found = {name.removeprefix(place): wheel.read(name) for name in wheel.namelist() if name.startswith(place)}
    assert found == inside
    assert Path(built).stat().st_size < 40e6
