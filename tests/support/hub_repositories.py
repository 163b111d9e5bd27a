"""What a Hub holds: repositories with branches, whole commits and large files, and what it says against a card.

Kept in memory. A commit is a picture of all files, so that nothing of a commit can be there without the rest of it.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

#: Larger files, and files with these endings, go by LFS; as on the Hub.
LFS_SIZE = 10_000_000
LFS_ENDINGS = {".safetensors", ".bin", ".arpa", ".ngrams", ".gz", ".pt", ".png", ".wav", ".npz"}


class RefusedError(Exception):
    """An answer that is no success: status, the code the client reads, what it says."""

    def __init__(self, status: int, code: str | None, message: str, **body: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.body = status, code, {"error": message} | body


@dataclass(frozen=True)
class Blob:
    """The content of a file."""

    content: bytes
    lfs: bool

    @property
    def git_oid(self) -> str:
        """Git's name for it."""
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def oid(self) -> str:
        """The name by which a client knows that its file is there already."""
        return hashlib.sha256(self.content).hexdigest() if self.lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    """All files at one moment."""

    oid: str
    title: str
    files: dict[str, Blob]
    parent: str | None


@dataclass
class Repository:
    """One repository: `kind` is models, datasets or spaces."""

    kind: str
    name: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._keep("main", "initial commit", {}, None)

    def at(self, revision: str) -> Commit:
        """The commit of a branch or of a hash."""
        oid = self.branches.get(revision, revision)
        if oid not in self.commits:
            raise RefusedError(404, "RevisionNotFound", f"no revision {revision}")
        return self.commits[oid]

    def history(self, branch: str = "main") -> list[Commit]:
        """The commits of a branch, newest first."""
        found, oid = [], self.branches.get(branch)
        while oid is not None:
            found.append(self.commits[oid])
            oid = found[-1].parent
        return found

    def branch(self, name: str, start: str) -> None:
        """Begin a branch."""
        if name in self.branches:
            raise RefusedError(409, None, f"the branch {name} exists")
        self.branches[name] = self.at(start).oid

    def upload_modes(self, revision: str, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """How each file should come, and the name of the one that is there."""
        present = self.at(revision).files
        answers = []
        for file in files:
            path = file["path"]
            lfs = file["size"] > LFS_SIZE or PurePosixPath(path).suffix in LFS_ENDINGS
            mode = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            answers.append(mode | {"oid": present[path].oid if path in present else None})
        return answers

    def commit(self, branch: str, lines: list[dict[str, Any]]) -> Commit:
        """Make the whole commit, or none of it."""
        if branch not in self.branches:
            raise RefusedError(404, "RevisionNotFound", f"no branch {branch}")
        parent = self.at(branch)
        files, title = dict(parent.files), ""
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, parent.oid):
                    raise RefusedError(412, None, "a commit has happened since")
            else:
                self._apply(files, key, value)
        return self._keep(branch, title, files, parent.oid)

    def _apply(self, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        path = value["path"]
        if key == "file":
            files[path] = Blob(_decoded(value["content"]), lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in self.objects:
                raise RefusedError(400, None, f"{path}: its LFS object {value['oid']} was not uploaded")
            files[path] = Blob(self.objects[value["oid"]], lfs=True)
        elif key in ("deletedFile", "deletedFolder"):
            gone = [name for name in files if name == path or (key != "deletedFile" and name.startswith(path))]
            if not gone:
                raise RefusedError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
            for name in gone:
                del files[name]
        else:
            raise RefusedError(400, None, f"unknown line {key}")

    def _keep(self, branch: str, title: str, files: dict[str, Blob], parent: str | None) -> Commit:
        names = {name: blob.oid for name, blob in files.items()}
        seed = json.dumps([self.name, branch, title, names, parent, len(self.commits)], sort_keys=True)
        commit = Commit(hashlib.sha1(seed.encode()).hexdigest(), title, files, parent)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def description(self, revision: str) -> dict[str, Any]:
        """What the API says of a repository at a revision."""
        commit = self.at(revision)
        card = card_metadata(commit.files["README.md"].content.decode()) if "README.md" in commit.files else {}
        index = card.pop("model-index", None)
        siblings = [
            {"rfilename": path, "size": len(blob.content), "blobId": blob.git_oid}
            for path, blob in commit.files.items()
        ]
        said: dict[str, Any] = {
            "_id": self.name,
            "id": self.name,
            "modelId": self.name,
            "sha": commit.oid,
            "private": self.private,
            "siblings": siblings,
            "tags": card.get("tags", []),
            "cardData": card,
        }
        for name in ("pipeline_tag", "library_name"):
            if name in card:
                said[name] = card[name]
        return said if index is None else said | {"model-index": index}

    def tree(self, revision: str, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """The files below a folder, and without `recursive` the folders in it."""
        files = self.at(revision).files
        start = f"{folder}/" if folder else ""
        inside = {path: blob for path, blob in sorted(files.items()) if path.startswith(start)}
        if folder and not inside:
            raise RefusedError(404, "EntryNotFound", f"no folder {folder}")
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in inside.items():
            rest = path.removeprefix(start)
            if "/" in rest and not recursive:
                name = start + rest.split("/")[0]
                entries[name] = {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
                continue
            entries[path] = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.git_oid}
            if blob.lfs:
                entries[path]["lfs"] = {"oid": blob.oid, "size": len(blob.content), "pointerSize": 130}
        return list(entries.values())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise RefusedError(400, None, f"not base64: {error}") from error


def card_metadata(card: str) -> dict[str, Any]:
    """The YAML block on top of a card; {} without one."""
    if not card.startswith("---\n"):
        return {}
    content = yaml.safe_load(card.split("---\n")[1])
    return content if isinstance(content, dict) else {}


def complaints_about(card: str) -> list[str]:
    """What the Hub's validator says against the metadata of a card (the part of its rules that these tests need)."""
    try:
        data = card_metadata(card)
    except yaml.YAMLError as error:
        return [f"bad YAML: {error}"]
    said = []
    licences = {"apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "other", "unknown"}
    if "license" in data and data["license"] not in licences:
        said.append(f'"license" must be one of [{", ".join(sorted(licences))}]')
    languages = data.get("language", [])
    for language in [languages] if not isinstance(languages, list) else languages:
        if not isinstance(language, str) or language != language.lower():
            said.append('"language" must only contain lowercase characters')
    if data.get("license") == "other" and "license_name" not in data:
        said.append('"license_name" is required when "license" is "other"')
    index = data.get("model-index", [])
    for number, model in enumerate(index if isinstance(index, list) else [None]):
        results = model.get("results") if isinstance(model, dict) else None
        if not isinstance(results, list):
            said.append(f'"model-index[{number}].results" is required')
            continue
        for place, result in enumerate(results):
            said += [
                f'"model-index[{number}].results[{place}].{part}" is required'
                for part in ("task", "dataset", "metrics")
                if part not in result
            ]
    return said
