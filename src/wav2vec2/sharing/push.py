"""Publishing a model folder: everything is checked on this machine first, and a failure sends nothing.

In this order: there is a token; the files are chosen; nothing private is in them; the metadata of the card holds;
others can load what will be published and get the same logits; the Hub finds the metadata right; then one commit.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from wav2vec2.sharing.card_metadata import metadata_problems
from wav2vec2.sharing.evaluation_tables import weights_problems
from wav2vec2.sharing.loading_check import Loaded, check_loading
from wav2vec2.sharing.model_card import CARD, REPOSITORY
from wav2vec2.sharing.publishable_files import (
    Secrets,
    UploadSelection,
    find_private,
    is_record,
    select_files,
    without_tokens,
)
from wav2vec2.sharing.upload import Target, UploadError, attempt, upload

LoadingCheck = Callable[[Path, Iterable[str], Path | None], Loaded]


class PushError(ValueError):
    """The folder is not ready to be published: all that is wrong with it. Nothing was sent."""


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub now."""

    #: Where it can be seen.
    url: str
    #: The commit that the branch stands at.
    commit: str
    #: False if everything was there already: then there is no new commit.
    changed: bool
    #: The names of the files that are published.
    files: list[str]
    #: What was not published, and why.
    left_out: dict[str, str] = field(default_factory=dict)
    #: What fresh processes made of it before it was sent.
    loaded: Loaded | None = None


def push_folder(
    folder: Path | str,
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str | None = None,
    clip: Path | None = None,
    check: LoadingCheck = check_loading,
    say: Callable[[str], None] = lambda line: None,
) -> Pushed:
    """Create or update the repository `name` ("user/name") with what is in the folder.

    `revision` is a branch, made if it is not there. `clip` is transcribed before anything leaves. The token is the one
    in HF_TOKEN, or of `hf auth login`. A folder that is not ready is a `PushError`, a Hub that does not take it an
    `UploadError`; after either, what was published before is as it was. `USER/NAME` in the card becomes `name`.
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    token = _token(name)
    secrets = Secrets.of_this_machine(token, name)
    selection = ready_files(folder, name, secrets)
    say(f"{len(selection.files)} files to publish; loading them fresh, here and with stock Transformers")
    try:
        loaded = check(folder, selection.files, clip)
        card = _card(folder, name)
        target = Target(name, revision or "main", private)
        attempt(lambda: validate_on_hub(card), target)
        files = {path: card.encode("utf-8") if path == CARD else None for path in selection.files}
        say(f"sending them to {name}")
        api = HfApi(library_name="wav2vec2")
        done = upload(api, target, folder, files, message or f"Upload {folder.resolve().name}")
    except (ValueError, UploadError) as error:
        kind = UploadError if isinstance(error, UploadError) else PushError
        raise kind(without_tokens(str(error), secrets)) from None
    url = f"{api.endpoint}/{name}" + ("" if target.branch == "main" else f"/tree/{target.branch}")
    return Pushed(url, done.commit, done.changed, selection.files, selection.left_out, loaded)


def ready_files(folder: Path, name: str, secrets: Secrets) -> UploadSelection:
    """What of the folder can be published. All that forbids it is one `PushError`."""
    try:
        selection = select_files(folder)
    except ValueError as error:
        raise PushError(str(error)) from error
    findings = find_private(folder, selection.files, secrets)
    for record in sorted({one.file for one in findings if is_record(one.file)}):
        selection.files.remove(record)
        selection.left_out[record] = "tells of this machine: " + next(f.what for f in findings if f.file == record)
    problems = [str(one) for one in findings if not is_record(one.file)]
    if CARD in selection.files:
        card = _card(folder, name)
        problems += [f"{CARD}: {problem}" for problem in metadata_problems(card) + weights_problems(folder, card)]
    else:
        problems.append(f"{CARD}: missing; write_card of wav2vec2.sharing.model_card writes it from the evaluation")
    problems += [f"{file}: missing" for file in ("config.json",) if file not in selection.files]
    if problems:
        raise PushError("not published, because of\n  " + "\n  ".join(problems))
    return selection


def validate_on_hub(card: str) -> None:
    """Ask the Hub whether it would take this card; what it says against it is a ValueError."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session, hf_raise_for_status

    # `ModelCard.validate` of huggingface_hub before release 2 asks huggingface.co, whichever Hub the card is for
    response = get_session().post(
        f"{constants.ENDPOINT}/api/validate-yaml",
        json={"repoType": "model", "content": card},
        headers={"Accept": "text/plain"},
    )
    if response.status_code == 400:
        try:
            said = [str(one["message"]) for one in json.loads(response.text)["errors"]]
        except (ValueError, KeyError, TypeError):
            said = [response.text]
        raise ValueError(f"{CARD}: the Hub refuses its metadata: {'; '.join(said)}")
    hf_raise_for_status(response)


def _card(folder: Path, name: str) -> str:
    """The card as it will be published."""
    text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    return text.replace(REPOSITORY, name)


def _token(name: str) -> str:
    """The token to write with; a `PushError` without one, offline, or for a name that cannot be on the Hub."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise PushError(f"{name!r} is no name on the Hub: {error}") from error
    if name.count("/") != 1:
        raise PushError(f"{name!r} is no name on the Hub: must be USER/NAME or ORGANISATION/NAME")
    if constants.is_offline_mode():
        raise PushError("HF_HUB_OFFLINE is set, so nothing can be sent; unset it")
    token = get_token()
    if not token:
        raise PushError(
            f"there is no token to write to {name} with: make one at {constants.ENDPOINT}/settings/tokens and put it "
            "into the environment variable HF_TOKEN, or run `hf auth login`"
        )
    return token
