"""What is found out before anything large is loaded: no Hub, no head for text, which languages."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_connections import connected
from language_folders import write_languages
from loopback_hub import LoopbackHub, running_hub
from recognition_checkpoints import RATE, noise, save_checkpoint
from small_models import CALM, small_config

from wav2vec2 import Transcriber, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2ForXVector, Wav2Vec2Model
from wav2vec2.inference import Transcript
from wav2vec2.inference.checkpoint_check import check_head_for_text, languages_of
from wav2vec2.processing.ctc_tokenizer import Wav2Vec2CTCTokenizer


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with running_hub() as running:
        yield running


def test_without_a_network_one_request_is_made_and_the_reason_said(hub: LoopbackHub, tmp_path: Path) -> None:
    """A port on which nobody listens any more."""
    hub.stop()
    with connected(hub, tmp_path) as naps:
        begun = time.monotonic()
        with pytest.raises(ConnectionError) as caught:
            Transcriber.from_pretrained("user/recogniser", device="cpu")
        assert time.monotonic() - begun < 5
    assert naps == []  # no second try
    assert f"the Hub cannot be reached ({hub.url}/user/recogniser/resolve/main/config.json: " in str(caught.value)
    assert "user/recogniser: no such folder here, it is not in the cache" in str(caught.value)


def test_what_was_fetched_before_loads_without_a_network(
    hub: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint")
    hub.add("user/recogniser", {path.name: path.read_bytes() for path in folder.iterdir()})
    sound = (noise(1.0), RATE)
    with connected(hub, tmp_path / "home") as naps:
        online = Transcriber.from_pretrained("user/recogniser", device="cpu").transcribe(sound)
        hub.stop()
        offline = Transcriber.from_pretrained("user/recogniser", device="cpu").transcribe(sound)
    assert isinstance(online, Transcript)
    assert online == offline
    assert online.text
    assert naps == []
    assert "Retrying" not in capsys.readouterr().err


def test_a_switched_off_hub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match="switched off by HF_HUB_OFFLINE"):
        Transcriber.from_pretrained("user/recogniser", device="cpu")


def test_a_model_without_a_head_for_text_is_told_what_to_do_first(tmp_path: Path) -> None:
    config = small_config("large_lv60k", **CALM)
    for number, (kind, message) in enumerate(
        (
            (
                Wav2Vec2ForPreTraining,
                r"pretrained \(Wav2Vec2ForPreTraining\), no head .* yet: `wav2vec2 finetune",
            ),
            (Wav2Vec2Model, r"pretrained \(Wav2Vec2Model\), no head for text yet"),
            (Wav2Vec2ForXVector, "is a Wav2Vec2ForXVector; only a Wav2Vec2ForCTC writes text"),
        )
    ):
        folder = tmp_path / str(number)
        kind(config).save_pretrained(folder)
        with pytest.raises(ValueError, match=message):
            Transcriber.from_pretrained(folder, device="cpu")


def test_weights_count_more_than_what_a_config_says(tmp_path: Path) -> None:
    """Configurations lose and copy their architectures; a head that is there is there, and none is none."""
    Wav2Vec2ForCTC(small_config("large_lv60k", **CALM)).save_pretrained(tmp_path / "ctc")
    Wav2Vec2Model(small_config("large_lv60k", **CALM)).save_pretrained(tmp_path / "bare")
    for folder, architectures in (("ctc", None), ("ctc", ["Wav2Vec2Model"]), ("bare", None)):
        path = tmp_path / folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": architectures}))
        if folder == "ctc":
            check_head_for_text(tmp_path / folder, {})
        else:
            with pytest.raises(ValueError, match="no head for text yet"):
                check_head_for_text(tmp_path / folder, {})
    (tmp_path / "empty").mkdir()
    check_head_for_text(tmp_path / "empty", {})  # loading says what is missing


def test_languages(tmp_path: Path) -> None:
    assert languages_of(save_checkpoint(tmp_path / "one"), {}) is None
    write_languages(tmp_path / "several")
    nested = json.loads((tmp_path / "several" / "vocab.json").read_text())
    Wav2Vec2CTCTokenizer(nested, target_lang="eng", unk_token=None).save_pretrained(tmp_path / "several")
    assert languages_of(tmp_path / "several", {}) == sorted(nested)
