"""Publishing to a Hub on loopback: what arrives, how often, where; and what is refused before anything leaves."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_connections import connected
from hub_routes import READER, WRITER
from loopback_hub import LoopbackHub, running_hub
from publishable_folders import PUBLISHED, publishable_folder, taken_as_loaded

from wav2vec2.sharing.loading_check import LoadingError
from wav2vec2.sharing.push import Pushed, PushError, push_folder
from wav2vec2.sharing.upload import UploadError

NAME = "tester/model"

# huggingface_hub 2.4 sends files by an argument that the HTTP library under it is about to rename.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publishable_folder(tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A folder of its own for each test."""
    return Path(shutil.copytree(made, tmp_path / "model"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with running_hub() as hub, connected(hub, tmp_path / "home"):
        yield hub


def push(folder: Path, name: str = NAME, **options: Any) -> Pushed:
    return push_folder(folder, name, check=taken_as_loaded, **options)


def test_a_folder_becomes_a_repository_in_one_commit(hub: LoopbackHub, folder: Path) -> None:
    done = push(folder, message="The first")
    repository = hub.repository(NAME)
    commit = repository.at("main")
    assert commit.files.keys() == PUBLISHED == set(done.files)
    assert done.left_out.keys() == {"training_state/", "optimizer.pt", "run.json"}
    assert [one.title for one in repository.history()] == ["The first", "initial commit"]
    assert (done.changed, done.commit, done.url) == (True, commit.oid, f"{hub.url}/{NAME}")
    for name in PUBLISHED - {"README.md"}:
        assert commit.files[name].content == (folder / name).read_bytes()
    assert commit.files["model.safetensors"].lfs and commit.files["language_model.ngrams"].lfs
    assert not commit.files["config.json"].lfs
    assert len(hub.sent("POST", "/commit/")) == 1
    assert len(hub.sent("PUT", "/lfs/")) == 2


def test_the_card_on_the_hub_names_the_repository_and_the_figures(hub: LoopbackHub, folder: Path) -> None:
    from huggingface_hub import HfApi, ModelCard

    push(folder)
    card = hub.repository(NAME).at("main").files["README.md"].content.decode()
    assert "USER/NAME" not in card and f'from_pretrained("{NAME}")' in card
    assert "USER/NAME" in (folder / "README.md").read_text()
    info = HfApi().model_info(NAME)
    assert (info.pipeline_tag, info.library_name) == ("automatic-speech-recognition", "transformers")
    results = ModelCard.load(NAME).data.eval_results
    assert [(one.metric_type, one.metric_value) for one in results] == [
        ("wer", 14.6),
        ("cer", pytest.approx(100 * 271 / 4931, abs=1e-4)),
        ("wer", 7.8),
        ("cer", pytest.approx(100 * 151 / 4931, abs=1e-4)),
    ]


def test_pushing_again_makes_no_commit_and_a_change_sends_what_changed(hub: LoopbackHub, folder: Path) -> None:
    first = push(folder)
    again = push(folder)
    assert not again.changed and again.commit == first.commit
    assert len(hub.repository(NAME).history()) == 2
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layerdrop": 0.25}))
    done = push(folder)
    lines = [json.loads(line) for line in hub.sent("POST", "/commit/")[-1].body.splitlines()]
    assert [line["value"]["path"] for line in lines if line["key"] != "header"] == ["config.json"]
    assert done.changed and len(hub.sent("PUT", "/lfs/")) == 2
    assert json.loads(hub.repository(NAME).at("main").files["config.json"].content)["layerdrop"] == 0.25


def test_a_branch_leaves_main_alone(hub: LoopbackHub, folder: Path) -> None:
    push(folder)
    (folder / "log.jsonl").write_text('{"kind": "training", "update": 2}\n')
    done = push(folder, revision="step-10")
    repository = hub.repository(NAME)
    assert done.url.endswith("/tree/step-10")
    assert b'"update": 2' in repository.at("step-10").files["log.jsonl"].content
    assert b'"update": 1' in repository.at("main").files["log.jsonl"].content
    assert push(folder, revision="step-10").changed is False


def test_a_private_repository_is_for_those_with_a_token(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    push(folder, private=True)
    assert hub.repository(NAME).private
    assert HfApi(token=READER).model_info(NAME).private
    with pytest.raises(RepositoryNotFoundError, match="401"):
        HfApi(token=False).model_info(NAME)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).hf_hub_download(NAME, "config.json", cache_dir=tmp_path / "cache")


def test_what_is_public_is_not_taken_for_private(hub: LoopbackHub, folder: Path) -> None:
    push(folder)
    (folder / "log.jsonl").write_text("{}\n")
    with pytest.raises(UploadError, match="is public"):
        push(folder, private=True)
    assert len(hub.repository(NAME).history()) == 2


def test_weights_of_an_earlier_push_do_not_stay_beside_the_new(hub: LoopbackHub, folder: Path) -> None:
    """Stock Transformers takes `model.safetensors` before the pieces of a newer push."""
    push(folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "model-00001-of-00001.safetensors").write_bytes(weights)
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "decoder.json").unlink()
    (folder / "language_model.ngrams").unlink()
    push(folder)
    names = hub.repository(NAME).at("main").files.keys()
    assert {name for name in names if "model" in name} == {
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
    }
    assert "decoder.json" not in names and "README.md" in names
    assert len(hub.repository(NAME).history()) == 3


def test_files_of_others_stay(hub: LoopbackHub, folder: Path) -> None:
    hub.add(NAME, {"LICENSE": b"text", ".gitattributes": b"*.bin filter=lfs\n", "notes/plan.md": b"a plan"})
    push(folder)
    assert hub.repository(NAME).at("main").files.keys() == PUBLISHED | {"LICENSE", ".gitattributes", "notes/plan.md"}


def nothing_was_sent(hub: LoopbackHub) -> bool:
    """Not even a question."""
    return hub.requests == [] and hub.repositories == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"license": "gpl-7"}, "license: 'gpl-7' is no identifier"),
        ({"licence": "mit"}, "licence: no such field; license?"),
        ({"language": "english"}, "'english' is no code"),
        ({"library_name": "nemo"}, "must be transformers"),
        ({"model-index": [{"name": "x", "results": [{"task": {"type": "a"}}]}]}, "results.0..dataset"),
    ],
)
def test_a_card_with_an_invalid_field_is_refused(
    hub: LoopbackHub, folder: Path, change: dict[str, Any], message: str
) -> None:
    import yaml

    _, block, text = (folder / "README.md").read_text().split("---\n", 2)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(yaml.safe_load(block) | change)}---\n{text}")
    with pytest.raises(PushError, match=message):
        push(folder)
    assert nothing_was_sent(hub)


def test_what_the_hub_says_against_a_card_is_told_and_nothing_is_published(hub: LoopbackHub, folder: Path) -> None:
    """Its rules may be newer than ours; it knows fewer licences here."""
    text = (folder / "README.md").read_text()
    (folder / "README.md").write_text(text.replace("license: apache-2.0", "license: gpl-3.0", 1))
    with pytest.raises(UploadError, match='"license" must be one of'):
        push(folder)
    assert hub.repositories == {}
    assert {one.path for one in hub.requests if one.method != "GET"} == {"/api/validate-yaml"}


def test_all_that_is_wrong_is_said_at_once(hub: LoopbackHub, folder: Path) -> None:
    (folder / "config.json").write_text('{"_name_or_path": "/home/somebody/base"}')
    (folder / "notes.txt").write_text(f"first\nmy token: {'hf_' + 'x1' * 17}\n")
    (folder / "README.md").unlink()
    with pytest.raises(PushError) as caught:
        push(folder)
    assert "config.json, line 1: a path of a machine: /home/somebody/base" in str(caught.value)
    assert "notes.txt, line 2: an access token" in str(caught.value) and "x1x1" not in str(caught.value)
    assert "README.md: missing" in str(caught.value)
    assert nothing_was_sent(hub)


def test_a_card_of_other_weights_is_not_sent(hub: LoopbackHub, folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(PushError, match=r"model\.safetensors is not the file that was measured"):
        push(folder)
    assert nothing_was_sent(hub)


def test_a_model_that_others_cannot_load_is_not_sent(hub: LoopbackHub, folder: Path) -> None:
    def cannot(*_: Any) -> Any:
        raise LoadingError(f"stock Transformers cannot use it: {WRITER}")

    with pytest.raises(PushError, match=r"cannot use it: \[token\]"):
        push_folder(folder, NAME, check=cannot)
    assert nothing_was_sent(hub)


@pytest.mark.parametrize("name", ["model", "a/b/c", "tester/mo del", "../tester/x"])
def test_a_name_that_cannot_be(hub: LoopbackHub, folder: Path, name: str) -> None:
    with pytest.raises(PushError, match="no name on the Hub"):
        push(folder, name)
    assert nothing_was_sent(hub)


def test_without_a_token_it_says_how_to_get_one(folder: Path, tmp_path: Path) -> None:
    with running_hub() as hub:
        with connected(hub, tmp_path / "home", token=None), pytest.raises(PushError, match="HF_TOKEN"):
            push(folder)
        assert nothing_was_sent(hub)


def test_offline_it_says_so(hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PushError, match="HF_HUB_OFFLINE"):
        push(folder)
    assert nothing_was_sent(hub)
