"""A Hub that fails: what was published before stays, nothing is there by halves, and a second push goes on."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_connections import connected
from hub_routes import READER
from loopback_hub import LoopbackHub, running_hub
from publishable_folders import PUBLISHED, publishable_folder, taken_as_loaded

from wav2vec2.sharing import upload
from wav2vec2.sharing.push import Pushed, push_folder
from wav2vec2.sharing.upload import UploadError

NAME = "tester/model"
FOR_EVER = 10_000

# huggingface_hub 2.4 sends files by an argument that the HTTP library under it is about to rename.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publishable_folder(tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def naps(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that were waited, by us and by huggingface_hub."""
    with connected(hub, tmp_path / "home") as naps:
        monkeypatch.setattr(upload, "time", SimpleNamespace(sleep=naps.append))
        yield naps


def push(folder: Path) -> Pushed:
    return push_folder(folder, NAME, check=taken_as_loaded)


def published(hub: LoopbackHub) -> set[str]:
    """The files that a user of the Hub sees."""
    repository = hub.repositories.get(("models", NAME))
    return set() if repository is None else set(repository.at("main").files)


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/validate-yaml"),
        ("POST", "/api/repos/create"),
        ("POST", "/preupload/"),
        ("POST", "/objects/batch"),
        ("PUT", "/lfs/"),
        ("POST", "/commit/"),
    ],
)
def test_a_hub_that_fails_has_nothing_by_halves(
    hub: LoopbackHub, naps: list[float], made: Path, method: str, path: str, status: int
) -> None:
    hub.fail(method, path, FOR_EVER, status=status)
    with pytest.raises(UploadError, match=rf"the Hub failed \({status}.*Run the same command again"):
        push(made)
    assert published(hub) == set()
    assert len(hub.sent(method, path)) > 3 and len(naps) >= 3
    hub.faults.clear()
    assert push(made).changed and published(hub) == PUBLISHED


@pytest.mark.parametrize("path", ["/api/repos/create", "/preupload/", "/objects/batch", "/commit/"])
def test_a_short_fault_is_not_noticed(hub: LoopbackHub, naps: list[float], made: Path, path: str) -> None:
    hub.fail("POST", path, 2)
    assert push(made).changed and published(hub) == PUBLISHED
    assert len(naps) == 2 and naps[1] > naps[0] > 0


def test_what_arrived_is_not_sent_again(hub: LoopbackHub, naps: list[float], made: Path) -> None:
    """The server dies in the middle of the weights; the language model was there already."""
    weights = (made / "model.safetensors").read_bytes()
    oid = hashlib.sha256(weights).hexdigest()
    hub.fail("PUT", oid, FOR_EVER, cut_after=1000)
    with pytest.raises(UploadError, match="no connection to http://127.0.0.1"):
        push(made)
    assert published(hub) == set()
    objects = hub.repository(NAME).objects
    assert len(objects) == 1 and oid not in objects
    hub.faults.clear()
    before = len(hub.requests)
    push(made)
    sent = [one.path for one in hub.requests[before:] if one.method == "PUT"]
    assert len(sent) == 1 and sent[0].endswith(oid)
    assert hub.repository(NAME).at("main").files["model.safetensors"].content == weights


def test_a_server_that_dies_and_comes_back(
    hub: LoopbackHub, naps: list[float], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone when the weights are to be sent, and back when they are tried again."""
    hub.fail("PUT", "/lfs/", FOR_EVER, cut_after=10)
    waited: list[float] = []

    def come_back(seconds: float) -> None:
        waited.append(seconds)
        hub.faults.clear()
        hub.stop()
        hub.start()

    monkeypatch.setattr(upload, "time", SimpleNamespace(sleep=come_back))
    assert push(made).changed
    assert len(waited) == 1 and published(hub) == PUBLISHED


def test_a_dead_server(hub: LoopbackHub, naps: list[float], made: Path) -> None:
    hub.stop()
    with pytest.raises(UploadError, match="no connection to .*Run the same command again"):
        push(made)
    hub.start()
    assert push(made).changed


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub: LoopbackHub, naps: list[float], made: Path) -> None:
    hub.fail("POST", "/commit/", answer_lost=True)
    push(made)
    assert len(hub.repository(NAME).history()) == 2 and published(hub) == PUBLISHED


def test_the_published_model_stays_while_an_update_fails(
    hub: LoopbackHub, naps: list[float], made: Path, tmp_path: Path
) -> None:
    push(made)
    before = hub.repository(NAME).at("main")
    changed = Path(shutil.copytree(made, tmp_path / "changed"))
    for name in ("log.jsonl", "language_model.ngrams"):
        (changed / name).write_bytes((changed / name).read_bytes() + b"\n")
    hub.fail("POST", "/commit/", FOR_EVER, status=502)
    with pytest.raises(UploadError, match="Nothing was published"):
        push(changed)
    assert hub.repository(NAME).at("main") == before
    hub.faults.clear()
    sent = len(hub.sent("PUT", "/lfs/"))
    assert push(changed).changed and len(hub.sent("PUT", "/lfs/")) == sent


@pytest.mark.parametrize("path", ["/api/repos/create", "/preupload/", "/commit/"])
def test_a_hub_that_is_asked_too_often_says_how_long_to_wait(
    hub: LoopbackHub, naps: list[float], made: Path, path: str
) -> None:
    hub.fail("POST", path, 1, status=429, headers={"Retry-After": "37"})
    assert push(made).changed
    assert len(naps) == 1 and 37 <= naps[0] <= 38
    hub.fail("POST", path, FOR_EVER, status=429, headers={"Retry-After": "37"})
    (made / "events.log").write_text("one more file\n")
    try:
        with pytest.raises(UploadError, match=r"429.*Wait some minutes"):
            push(made)
    finally:
        (made / "events.log").unlink()
    assert min(naps) >= 37


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        ("hf_" + "unknown" * 5, NAME, r"does not accept the token \(401.*HF_TOKEN"),
        (READER, NAME, r"may not write there \(403.*settings/tokens"),
        (None, "somebody/model", r"may not write there \(403.*a name of your own"),
    ],
)
def test_a_token_that_may_not(
    hub: LoopbackHub,
    naps: list[float],
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    name: str,
    message: str,
) -> None:
    """No attempt is worth repeating, and the token is not in the message."""
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UploadError, match=message) as caught:
        push_folder(made, name, check=taken_as_loaded)
    assert naps == [] and hub.repositories == {}
    assert token is None or token not in str(caught.value)
    assert len(hub.sent("POST", "/api/repos/create")) == 1


def test_somebody_else_pushed_in_between(hub: LoopbackHub, naps: list[float], made: Path) -> None:
    """What stands on the branch afterwards is looked at, not assumed."""
    repository = hub.add(NAME, {"other.txt": b"x"})
    original = repository.commit

    def commit(branch: str, lines: list[dict[str, object]]) -> object:
        mine = original(branch, lines)
        original(branch, [{"key": "deletedFile", "value": {"path": "config.json"}}])
        return mine

    repository.commit = commit  # type: ignore[method-assign,assignment]
    with pytest.raises(UploadError, match=r"missing: config\.json"):
        push(made)
