"""Which files of a model folder are published, and what must be in none: paths, the name of a user, access tokens.

Text is looked at line by line; other files (weights, pictures) for tokens and the home directory alone, because
anything may look like a path among random bytes. A token that is found is never repeated in a message.
"""

import getpass
import os
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

#: Folders and files that belong to a training run and its machine. Each pattern has its reason.
_LEFT_OUT = {
    "training_state*": "the state of a training run",
    "checkpoint*": "the state of a training run",
    "runs": "a tracker's files",
    "wandb": "a tracker's files",
    "trackio": "a tracker's files",
    "events.out.tfevents*": "a tracker's files",
    "__pycache__": "compiled code",
    "*.pyc": "compiled code",
    "optimizer*": "the optimizer's state",
    "scheduler*": "the optimizer's state",
    "scaler*": "the optimizer's state",
    "rng_state*": "the state of a training run",
    "random_states*": "the state of a training run",
    "trainer_state.json": "the state of a training run",
    "training_args.bin": "a pickle with settings of the machine",
    "*.pkl": "a pickle can run code where it is loaded",
    "*.pickle": "a pickle can run code where it is loaded",
    "*.part": "an unfinished file",
    "*.partial": "an unfinished file",
    "*.tmp": "an unfinished file",
    "*.incomplete": "an unfinished file",
    "*.lock": "a lock",
}
#: What a run tells of itself is published where nothing private is in it, and else stays.
_RECORDS = ("*.log", "*.jsonl", "*.out", "*.err", "run.json", "run.yaml")
#: Hidden files that a repository of the Hub may hold.
_KNOWN_HIDDEN = {".gitattributes"}

#: What loading looks for. A repository that is updated must not keep an older one beside the new: stock Transformers
#: would take `model.safetensors` of the last push before the pieces of this one.
_REPLACED = (
    "model*.safetensors",
    "model*.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model*.bin.index.json",
    "adapter.*.safetensors",
    "adapter.*.bin",
    "decoder.json",
    "labels.json",
    "language_model.ngrams",
    "alphabet.json",
    "language_model/*",
)

#: Tokens of the Hub and of services that a training run may know, and keys.
_TOKENS = re.compile(
    rb"\b(?:hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    rb"|sk-[A-Za-z0-9_-]{30,}|AKIA[A-Z0-9]{16})\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
#: Where machines keep the files of users and of clusters; two parts make a path there, three or more anywhere.
_ROOTS = (
    "home|Users|root|mnt|media|data|datasets|scratch|work|workspace|workspaces|tmp|var|opt|srv|private|etc|usr|nfs|gpfs"
    "|lustre|fsx|efs|shared|projects|storage|Volumes|content|kaggle|dbfs|export|gfs"
)
_PATH = re.compile(
    rf"(?<![\w/:.<*])(?:/(?:{_ROOTS})/[\w.+@~-]+(?:/[\w.+@~-]+)*|(?:/[\w.+@~-]{{2,}}){{3,}})"
    r"|\b[A-Za-z]:(?:\\{1,2}|/)(?:[\w.+@~-]+(?:\\{1,2}|/))+[\w.+@~-]*|\\\\[\w.-]+\\[\w.$-]+|file://[\w/.+@~%-]+"
    r"|(?<![\w/])~/[\w.+@-]+"
)
#: Names of users that say nothing about anybody, and are words of texts as well.
_NOBODY = {
    "root", "user", "users", "admin", "ubuntu", "debian", "runner", "jovyan", "docker", "nobody", "guest", "home",
    "localhost",
}  # fmt: skip
#: Files whose words are the language's.
_WORD_LISTS = {"vocab.json", "unigrams.txt", "decoder.json", "alphabet.json", "added_tokens.json"}
_CHUNK = 1 << 22


@dataclass
class UploadSelection:
    """What goes of a `folder`: the names of its `files`, with slashes, and for those `left_out` the reason."""

    folder: Path
    files: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def select_files(folder: Path) -> UploadSelection:
    """Go through the folder. A link to nowhere is a ValueError; folders that are links are not entered."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    selection = UploadSelection(folder)
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in sorted(folders):
            reason = "a link to a folder" if (Path(place) / name).is_symlink() else _reason(name)
            if reason:
                folders.remove(name)
                selection.left_out[(inside / name).as_posix() + "/"] = reason
        folders.sort()
        for name in sorted(files):
            path = (inside / name).as_posix()
            if reason := _reason(name):
                selection.left_out[path] = reason
            elif not (folder / path).is_file():
                raise ValueError(f"{folder / path}: not a file, or a link to nowhere; remove it")
            else:
                selection.files.append(path)
    return selection


def is_record(path: str) -> bool:
    """Whether a file tells of the run alone, so that the model is whole without it."""
    return any(fnmatch(Path(path).name, pattern) for pattern in _RECORDS)


def is_replaced(path: str) -> bool:
    """Whether a file of an older push would be loaded beside, or instead of, what this push brings."""
    return any(fnmatch(path, pattern) for pattern in _REPLACED)


@dataclass(frozen=True)
class PrivateFinding:
    """One private thing: in which `file`, in which `line` (0 if it is no text), and `what` it is."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


@dataclass(frozen=True)
class Secrets:
    """What is private on this machine alone: access `tokens`, the `home` directory, `names` of its user and its own."""

    tokens: tuple[str, ...] = ()
    home: str | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def of_this_machine(cls, token: str | None = None, published_as: str = "") -> "Secrets":
        """The token in use, the home directory, user and host; a name that `published_as` says anyway is no secret."""
        names = {name for name in (_user(), socket.gethostname().split(".")[0]) if name and len(name) > 3}
        public = set(re.split(r"[/\W]+", published_as.lower()))
        kept = sorted(name for name in names if name.lower() not in _NOBODY | public)
        tokens = {value for value in (token, *_tokens_of_environment()) if value}
        home = os.path.expanduser("~")
        return cls(tuple(sorted(tokens)), home if len(home) > 3 else None, tuple(kept))


def find_private(folder: Path, files: Iterable[str], secrets: Secrets) -> list[PrivateFinding]:
    """All that is private in the files, in their order; a file's name counts as well."""
    found = []
    for name in files:
        found += [
            PrivateFinding(name, 0, f"the name of the file has {what}") for what in _in_line(name, secrets, words=False)
        ]
        found += _in_file(folder / name, name, secrets)
    return found


def private_lines(text: str, name: str, secrets: Secrets) -> list[PrivateFinding]:
    """All that is private in a text that is to become the file `name`."""
    words = Path(name).name not in _WORD_LISTS
    lines = enumerate(text.splitlines(), 1)
    return [PrivateFinding(name, number, what) for number, line in lines for what in _in_line(line, secrets, words)]


def without_tokens(text: str, secrets: Secrets) -> str:
    """The text with `[token]` in place of each token, so that it may be shown or written."""
    for token in secrets.tokens:
        text = text.replace(token, "[token]")
    return _TOKENS.sub(b"[token]", text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _reason(name: str) -> str | None:
    if name.startswith(".") and name not in _KNOWN_HIDDEN:
        return "hidden"
    return next((reason for pattern, reason in _LEFT_OUT.items() if fnmatch(name, pattern)), None)


def _in_file(path: Path, name: str, secrets: Secrets) -> Iterator[PrivateFinding]:
    with path.open("rb") as stream:
        start = stream.read(8192)
    if b"\0" in start:
        yield from (PrivateFinding(name, 0, what) for what in sorted(_in_bytes(path, secrets)))
        return
    words = Path(name).name not in _WORD_LISTS
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            yield from (PrivateFinding(name, number, what) for what in _in_line(line, secrets, words))


def _in_line(line: str, secrets: Secrets, words: bool) -> list[str]:
    """What is private in a line; `words` says whether a name of this user in it means this user."""
    found = []
    if any(token in line for token in secrets.tokens) or _TOKENS.search(line.encode("utf-8", "replace")):
        found.append("an access token")
    plain = line.replace("\\/", "/")  # JSON may write a slash so
    found += [f"a path of a machine: {without_tokens(match[0], secrets)}" for match in _PATH.finditer(plain)]
    if not found and secrets.home and re.search(rf"{re.escape(secrets.home)}(?![\w-])", plain):
        found.append(f"the home directory: {secrets.home}")
    if words and not found:
        found += [
            f"the name of this user or machine: {n}" for n in secrets.names if re.search(rf"\b{re.escape(n)}\b", line)
        ]
    return found


def _in_bytes(path: Path, secrets: Secrets) -> set[str]:
    """Tokens and the home directory in a file of any size; pieces overlap by more than either is long."""
    found: set[str] = set()
    tail = b""
    home = f"{secrets.home}/".encode() if secrets.home else None
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            text = tail + piece
            if any(token.encode() in text for token in secrets.tokens) or _TOKENS.search(text):
                found.add("an access token")
            if home and home in text:
                found.add(f"the home directory: {secrets.home}")
            tail = text[-512:]
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return ""


def _tokens_of_environment() -> list[str]:
    """Values of variables that are called tokens, keys, passwords; short ones are settings, not secrets."""
    secret = re.compile(r"TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY", re.IGNORECASE)
    return [
        value for name, value in os.environ.items() if secret.search(name) and len(value) >= 16 and "/" not in value
    ]
