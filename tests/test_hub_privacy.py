"""What must not leave a machine is found, wherever it stands; what only looks like it is not."""

from pathlib import Path

import pytest

from wav2vec2.sharing.publishable_files import Secrets, find_private, is_replaced, select_files, without_tokens

TOKEN = "hf_" + "aB3" * 12
NOBODY = Secrets()
SOMEBODY = Secrets((TOKEN, "a-password-of-mine-1234"), "/srv/people/jdoe", ("jdoe", "node17"))


def found(folder: Path, text: str, name: str = "file.json", secrets: Secrets = NOBODY) -> list[str]:
    (folder / name).write_text(text, encoding="utf-8")
    return [one.what for one in find_private(folder, [name], secrets)]


@pytest.mark.parametrize(
    "path",
    [
        "/home/ann/data/train.tsv",
        "/root/runs",
        "/Users/Ann Lee/model",
        "/mnt/disk1/speech",
        "/tmp/x1",
        "/scratch/project_7/a.wav",
        "/very/own/place/of/things",
        "C:\\\\Users\\\\ann\\\\model",
        "C:\\Users\\ann",
        "D:/speech/train",
        "\\\\server\\share",
        "file:///x/y",
        "~/models",
    ],
)
@pytest.mark.parametrize("form", ['{{"path": "{}"}}', "path: {}", "see {}.", "<a href='{}'>x</a>", "`{}`"])
def test_paths_of_machines_are_found(tmp_path: Path, path: str, form: str) -> None:
    (what,) = found(tmp_path, form.format(path))
    assert what.rstrip(".") == f"a path of a machine: {path.split()[0]}"  # a blank ends what is shown of it


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/home/user/model/tree/main",
        "and/or, 16 kHz/mono, km/h, 1/2/3",
        "</div></td></tr><br/><path d='M0 0/1'/>",
        "[curves](report.png) and docs/decoding.md",
        "| 5.1 / 6.2 / 7.3 |",
        "phonemes: /ə/ /b a/ /tʃ/",
        "a repository: facebook/wav2vec2-base",
        "hf_hub_download, hf_token, HF_TOKEN",
        '"auto_map": null, "a\\/b": 1',
        "ratio: 3:/4",
        "regex \\d+ \\w",
        "time 12:30:45",
        "<https://example.org/home/x/y>",
    ],
)
def test_what_only_looks_private_is_left_alone(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "README.md", "page.html", "noending"])
def test_tokens_are_found_and_not_repeated(tmp_path: Path, name: str) -> None:
    for text in (f'"token": "{TOKEN}"', f"x={TOKEN}&y", "ghp_" + "a1" * 18, "-----BEGIN RSA PRIVATE KEY-----"):
        assert found(tmp_path, f"first\n{text}\n", name) == ["an access token"]
    assert found(tmp_path, "the a-password-of-mine-1234 is", name, SOMEBODY) == ["an access token"]


def test_the_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"fine\n\n/home/ann/x {TOKEN}\n")
    assert [str(one) for one in find_private(tmp_path, ["a.txt"], NOBODY)] == [
        "a.txt, line 3: an access token",
        "a.txt, line 3: a path of a machine: /home/ann/x",
    ]


def test_a_token_in_a_path_is_not_repeated(tmp_path: Path) -> None:
    assert found(tmp_path, f"/home/ann/{TOKEN}/x") == ["an access token", "a path of a machine: /home/ann/[token]/x"]


def test_names_of_users_and_machines(tmp_path: Path) -> None:
    assert found(tmp_path, "made by jdoe on node17", secrets=SOMEBODY) == [
        "the name of this user or machine: jdoe",
        "the name of this user or machine: node17",
    ]
    assert found(tmp_path, '{"jdoe": 5}', "vocab.json", SOMEBODY) == []  # words of a language
    assert found(tmp_path, "jdoes, node170", secrets=SOMEBODY) == []
    assert found(tmp_path, "x", "jdoe.txt", SOMEBODY) == []


def test_a_name_that_is_published_anyway_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "jdoe")
    monkeypatch.setattr("socket.gethostname", lambda: "node17.cluster.example")
    monkeypatch.setenv("SOME_API_KEY", "k" * 20)
    monkeypatch.setenv("TOKEN_FILE", "/home/ann/token-of-mine")
    assert Secrets.of_this_machine(TOKEN, "other/model").names == ("jdoe", "node17")
    secrets = Secrets.of_this_machine(TOKEN, "jdoe/model")
    assert secrets.names == ("node17",)
    assert TOKEN in secrets.tokens and "k" * 20 in secrets.tokens and "/home/ann/token-of-mine" not in secrets.tokens
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    assert Secrets.of_this_machine(None, "other/model").names == ("node17",)


@pytest.mark.parametrize("place", [0, 8190, (1 << 22) - 10, (1 << 22) + 5])
def test_binary_files_are_searched_for_tokens_and_home(tmp_path: Path, place: int) -> None:
    """Also where the piece that is read ends; random bytes and short paths say nothing."""
    noise = b"\0/home/a/b\xff" + b"\x01" * (1 << 22) + b"\0" * 100
    for secret in (TOKEN.encode(), b"/srv/people/jdoe/x"):
        data = bytearray(noise)
        data[place : place + len(secret)] = secret
        data[0:1] = b"\0" if place else data[0:1]
        data[place + len(secret)] = 0
        (tmp_path / "model.safetensors").write_bytes(bytes(data))
        assert len(find_private(tmp_path, ["model.safetensors"], SOMEBODY)) == 1
    (tmp_path / "model.safetensors").write_bytes(noise)
    assert find_private(tmp_path, ["model.safetensors"], SOMEBODY) == []


def test_messages_lose_their_tokens() -> None:
    assert without_tokens(f"no {TOKEN} and a-password-of-mine-1234, é", SOMEBODY) == "no [token] and [token], é"


def test_what_belongs_to_a_run_stays(tmp_path: Path) -> None:
    names = [
        "config.json",
        ".gitattributes",
        "language_model/attrs.json",
        "training_state/x.json",
        "checkpoints/update-1/config.json",
        ".git/config",
        ".cache/x",
        "runs/events.out.tfevents.1",
        "optimizer.pt",
        "rng_state_0.pth",
        "training_args.bin",
        "model.safetensors.partial",
        "__pycache__/a.pyc",
        "pytorch_model.bin",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    selection = select_files(tmp_path)
    assert selection.files == [".gitattributes", "config.json", "pytorch_model.bin", "language_model/attrs.json"]
    assert {name.rstrip("/") for name in selection.left_out} == {
        part.split("/")[0] for part in names if part not in selection.files
    }


def test_links(tmp_path: Path) -> None:
    """A file that is a link goes with its content, a folder that is one stays, a link to nowhere is an error."""
    model, outside = tmp_path / "model", tmp_path / "outside"
    outside.mkdir()
    model.mkdir()
    (outside / "config.json").write_text('{"a": "/home/ann/x"}')
    (model / "config.json").symlink_to(outside / "config.json")
    (model / "more").symlink_to(outside)
    selection = select_files(model)
    assert (selection.files, selection.left_out) == (["config.json"], {"more/": "a link to a folder"})
    assert len(find_private(model, selection.files, NOBODY)) == 1
    (model / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="gone: not a file, or a link to nowhere"):
        select_files(model)


@pytest.mark.parametrize("name", ["model.safetensors", "model-00001-of-00002.safetensors", "adapter.eng.safetensors"])
def test_weights_are_replaced(name: str) -> None:
    assert is_replaced(name) and is_replaced("language_model/5gram.bin") and not is_replaced("notes/" + name)
    assert not is_replaced("README.md")
