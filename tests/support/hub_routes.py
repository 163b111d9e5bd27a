"""The routes of a Hub, and what each answers. Success is JSON or a file with its headers, all else is `RefusedError`.

The minimum that huggingface_hub reads, as recorded from its requests.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_repositories import RefusedError, Repository, complaints_about

if TYPE_CHECKING:
    from loopback_hub import LoopbackHub

#: The user's token that may write, one that may read alone, and the user's name. They look like real ones and are none.
WRITER, READER = "hf_" + "W" * 34, "hf_" + "R" * 34
USER = "tester"

Answer = dict[str, Any] | list[Any]
Found = Answer | tuple[bytes, dict[str, str]]


@dataclass(frozen=True)
class Call:
    """A request on its way through the routes."""

    hub: "LoopbackHub"
    authorization: str | None
    parts: dict[str, str]
    body: bytes
    query: str

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    def user(self) -> str | None:
        """Who asks: "write", "read" or None; a token that is not known is refused."""
        if self.authorization is None:
            return None
        known = {f"Bearer {WRITER}": "write", f"Bearer {READER}": "read"}
        if self.authorization not in known:
            raise RefusedError(401, None, "Invalid credentials in Authorization header")
        return known[self.authorization]

    def must_write(self, name: str) -> None:
        user = self.user()
        if user is None:
            raise RefusedError(401, None, "Invalid username or password.")
        if user != "write" or not name.startswith(f"{USER}/"):
            raise RefusedError(403, None, f"You don't have the rights to write to {name}")

    def repository(self, write: bool = False) -> Repository:
        kind = (self.parts.get("kind") or "models").strip("/")
        name = self.parts["repo"]
        found = self.hub.repositories.get((kind, name))
        user = self.user()
        if found is None or (found.private and user is None):
            raise RefusedError(401 if user is None else 404, "RepoNotFound", "Repository not found")
        if write:
            self.must_write(name)
        return found


Action = Callable[[Call], Found]


def _whoami(call: Call) -> Answer:
    if (user := call.user()) is None:
        raise RefusedError(401, None, "Invalid username or password.")
    return {"type": "user", "name": USER, "auth": {"accessToken": {"role": user}}, "orgs": []}


def _create(call: Call) -> Answer:
    asked = call.json
    name = f"{asked.get('organization') or USER}/{asked['name']}"
    call.must_write(name)
    kind, url = f"{asked.get('type') or 'model'}s", f"{call.hub.url}/{name}"
    if (kind, name) in call.hub.repositories:
        raise RefusedError(409, None, "You already created this repo", url=url)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    call.hub.repositories[kind, name] = Repository(kind, name, private)
    return {"url": url, "name": name}


def _validate(call: Call) -> Answer:
    errors = [{"message": message} for message in complaints_about(call.json["content"])]
    if errors:
        raise RefusedError(400, None, "Invalid metadata", errors=errors, warnings=[])
    return {"errors": [], "warnings": []}


def _preupload(call: Call) -> Answer:
    repository = call.repository(write=True)
    return {"files": repository.upload_modes(call.parts["revision"], call.json["files"])}


def _batch(call: Call) -> Answer:
    repository = call.repository(write=True)
    objects = []
    for asked in call.json["objects"]:
        answer: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in repository.objects:
            href = f"{call.hub.url}/lfs/{repository.kind}/{repository.name}/{asked['oid']}"
            answer["actions"] = {"upload": {"href": href, "header": {}}}
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}


def _put_object(call: Call) -> Answer:
    if hashlib.sha256(call.body).hexdigest() != call.parts["oid"]:
        raise RefusedError(400, None, "the content is not what its name says")
    call.hub.repositories[call.parts["kind"], call.parts["repo"]].objects[call.parts["oid"]] = call.body
    return {}


def _commit(call: Call) -> Answer:
    repository = call.repository(write=True)
    lines = [json.loads(line) for line in call.body.splitlines() if line.strip()]
    commit = repository.commit(call.parts["revision"], lines)
    return {
        "success": True,
        "commitOid": commit.oid,
        "commitUrl": f"{call.hub.url}/{repository.name}/commit/{commit.oid}",
    }


def _branch(call: Call) -> Answer:
    repository = call.repository(write=True)
    repository.branch(call.parts["revision"], (json.loads(call.body or b"{}")).get("startingPoint") or "main")
    return {}


def _refs(call: Call) -> Answer:
    branches = call.repository().branches.items()
    listed = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in branches]
    return {"branches": listed, "tags": [], "converts": []}


def _describe(call: Call) -> Answer:
    return call.repository().description(call.parts.get("revision") or "main")


def _tree(call: Call) -> Answer:
    recursive = parse_qs(call.query).get("recursive", ["false"])[0].lower() == "true"
    return call.repository().tree(call.parts["revision"], call.parts.get("path", ""), recursive)


def _resolve(call: Call) -> tuple[bytes, dict[str, str]]:
    commit = call.repository().at(call.parts["revision"])
    blob = commit.files.get(call.parts["path"])
    if blob is None:
        raise RefusedError(404, "EntryNotFound", f"Entry not found: {call.parts['path']}")
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.oid}"', "Content-Type": "application/octet-stream"}
    return blob.content, headers


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>models|datasets|spaces)/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
RESOLVE = rf"/(?P<kind>datasets/|spaces/)?{_REPO}/resolve/{_REVISION}/(?P<path>.+)"
_ROUTES: list[tuple[str, str, Action]] = [
    ("GET", "/api/whoami-v2", _whoami),
    ("POST", "/api/repos/create", _create),
    ("POST", "/api/validate-yaml", _validate),
    ("POST", rf"{_API}/preupload/{_REVISION}", _preupload),
    ("POST", rf"/(?P<kind>datasets/|spaces/)?{_REPO}\.git/info/lfs/objects/batch", _batch),
    ("PUT", rf"/lfs/(?P<kind>\w+)/{_REPO}/(?P<oid>[0-9a-f]+)", _put_object),
    ("POST", rf"{_API}/commit/{_REVISION}", _commit),
    ("POST", rf"{_API}/branch/{_REVISION}", _branch),
    ("GET", rf"{_API}/refs", _refs),
    ("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<path>.+))?", _tree),
    ("GET", rf"{_API}(?:/revision/{_REVISION})?", _describe),
    ("GET HEAD", RESOLVE, _resolve),
]


def respond(hub: "LoopbackHub", method: str, url: str, authorization: str | None, body: bytes) -> Found:
    """The answer to a request."""
    split = urlsplit(url)
    for methods, pattern, action in _ROUTES:
        matched = re.fullmatch(pattern, split.path)
        if matched and method in methods.split():
            parts = {name: unquote(value or "") for name, value in matched.groupdict().items()}
            return action(Call(hub, authorization, parts, body, split.query))
    raise RefusedError(404, None, f"no route for {method} {split.path}")


def commit_asked_for(hub: "LoopbackHub", url: str) -> dict[str, str]:
    """A file that is not there is a fact about a commit: the client remembers it by the commit's name."""
    matched = re.fullmatch(RESOLVE, urlsplit(url).path)
    repository = matched and hub.repositories.get(((matched["kind"] or "models/").strip("/"), matched["repo"]))
    if not matched or not repository:
        return {}
    revision = unquote(matched["revision"])
    oid = repository.branches.get(revision, revision)
    return {"X-Repo-Commit": oid} if oid in repository.commits else {}
