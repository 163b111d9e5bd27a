"""Files to the Hub in one commit, which is there whole or not at all; what can pass is tried again.

Large files go first, each by the SHA-256 of its content, and are seen by nobody before the commit; those that are there
already are not sent again, so that a push after an interruption goes on where it stopped.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wav2vec2.sharing.publishable_files import is_replaced

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Result = TypeVar("Result")

#: Seconds before each further attempt; longer where the Hub asks for it.
WAITS = (1.0, 5.0, 20.0)
_PASSES = (408, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 300.0
AGAIN = "Nothing was published. Run the same command again: what arrived already is not sent again"


class UploadError(OSError):
    """The Hub did not take it: what happened, what to do."""


@dataclass(frozen=True)
class Target:
    """Where to: the repository `name` of a user or an organisation, and a `branch`.

    `private=None` leaves a repository that exists as it is, and makes a new one as the namespace's settings say.
    """

    name: str
    branch: str = "main"
    private: bool | None = None


@dataclass(frozen=True)
class Uploaded:
    """The `commit` that the branch stands at, and whether this push `changed` anything."""

    commit: str
    changed: bool


def upload(api: "HfApi", target: Target, folder: Path, files: Mapping[str, bytes | None], message: str) -> Uploaded:
    """Make the repository and the branch if they are not there, and one commit with all files.

    `files` maps names to contents; None: as it lies in the folder. Weights and decoders of an earlier push that are not
    among them are deleted in the same commit, since loading would find both.
    """
    attempt(lambda: api.create_repo(target.name, private=target.private, exist_ok=True), target)
    if target.branch != "main":
        attempt(lambda: api.create_branch(target.name, branch=target.branch, exist_ok=True), target)
    before = attempt(lambda: api.model_info(target.name, revision=target.branch), target)
    if target.private and before.private is False:
        raise UploadError(
            f"{target.name}: exists and is public; make it private in its settings first. Nothing was sent"
        )
    there = {sibling.rfilename for sibling in before.siblings or []}
    stale = sorted(name for name in there - files.keys() if is_replaced(name))

    def commit() -> Any:
        return api.create_commit(
            target.name, list(_operations(folder, files, stale)), commit_message=message, revision=target.branch
        )

    oid = attempt(commit, target).oid
    _check_published(api, target, oid, files)
    return Uploaded(oid, oid != before.sha)


def attempt(step: Callable[[], Result], target: Target) -> Result:
    """Do the step, and again after a while where the Hub was busy or away; at last an `UploadError` says what to do."""
    away = _network_errors()
    failures: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, *away)  # others are mistakes of ours
    for wait in (*WAITS, None):
        try:
            return step()
        except failures as error:
            cause, status = _what_happened(error)
            can_pass = status in _PASSES if status is not None else isinstance(cause, away)
            if wait is None or not can_pass:
                raise UploadError(explained(error, target)) from error
            asked = str(getattr(getattr(cause, "response", None), "headers", {}).get("Retry-After", ""))
            time.sleep(max(wait, min(float(asked), _LONGEST_WAIT) if asked.isdigit() else 0.0))
    raise AssertionError("the last attempt returns or raises")


def explained(error: BaseException, target: Target) -> str:
    """What an error of the Hub or of the network means here, and what to do."""
    from huggingface_hub import constants

    cause, status = _what_happened(error)
    said = " ".join(str(getattr(cause, "server_message", None) or cause).split())
    tokens = f"{constants.ENDPOINT}/settings/tokens"
    if status == 401:
        return (
            f"{target.name}: the Hub does not accept the token (401: {said}). Make one with the right to write at "
            f"{tokens} and put it into HF_TOKEN. Nothing was published"
        )
    if status == 403:
        return (
            f"{target.name}: the token may not write there (403: {said}). Give it the right to write at {tokens}, or "
            "push to a name of your own. Nothing was published"
        )
    if status == 404:
        return f"{target.name}: not found, or not visible to this token (404: {said}). Check the name and the branch"
    if status == 429:
        return f"{target.name}: the Hub limits how often one may ask (429: {said}). Wait some minutes. {AGAIN}"
    if status is not None and status >= 500:
        return f"{target.name}: the Hub failed ({status}: {said}). {AGAIN}"
    if status is not None:
        return f"{target.name}: the Hub refused ({status}: {said}). Nothing was published"
    if isinstance(cause, _network_errors()):
        return f"{target.name}: no connection to {constants.ENDPOINT} ({type(cause).__name__}: {said}). {AGAIN}"
    return f"{target.name}: {said}. Nothing was published"


def _operations(folder: Path, files: Mapping[str, bytes | None], stale: list[str]) -> Iterator[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    for name, content in files.items():
        yield CommitOperationAdd(name, folder / name if content is None else content)
    for name in stale:
        yield CommitOperationDelete(name, is_folder=False)


def _check_published(api: "HfApi", target: Target, oid: str, files: Mapping[str, bytes | None]) -> None:
    """An `UploadError` unless the branch stands at the commit, and all files are in it."""
    after = attempt(lambda: api.model_info(target.name, revision=target.branch), target)
    missing = sorted(files.keys() - {sibling.rfilename for sibling in after.siblings or []})
    if after.sha != oid or missing:
        raise UploadError(
            f"{target.name}: the branch {target.branch} stands at {after.sha}, the commit was {oid}; missing: "
            f"{', '.join(missing) or 'nothing'}. Somebody else may have pushed: look, and push again"
        )


def _network_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library under huggingface_hub raises, by whichever name that has."""
    from huggingface_hub.utils import _http

    library = getattr(_http, "httpx2", None) or getattr(_http, "httpx", None)
    return (ConnectionError, TimeoutError, *([library.HTTPError] if library else []))


def _what_happened(error: BaseException) -> tuple[BaseException, int | None]:
    """The error behind one that only says "Error while uploading ...", and the status of its answer if it has one."""
    while True:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None or not isinstance(error, RuntimeError) or error.__cause__ is None:
            return error, status
        error = error.__cause__
