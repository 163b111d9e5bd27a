"""The files of a tokenizer, as every release of stock Transformers wrote them, read without trusting them.

`vocab.json` holds tokens and ids, or one such object per language. `tokenizer_config.json` holds settings and, since
4.34, `added_tokens_decoder`; before that, `special_tokens_map.json` and `added_tokens.json` held those. `config.json`,
where it lies beside them, says how many logits there are and which one is the blank.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wav2vec2.files.hub_files import HUB_OPTIONS, hub_options, local_path
from wav2vec2.files.replaced_file import replaced_file
from wav2vec2.files.shipped_checkpoints import located
from wav2vec2.processing.vocabulary import check_tokens

#: What the Auto classes and pipelines of stock Transformers add to the options of `from_pretrained`.
_OF_AUTO_CLASSES = (
    "_from_auto",
    "_from_pipeline",
    "_commit_hash",
    "code_revision",
    "config",
    "dtype",
    "use_auth_token",
    "use_fast",
    "trust_remote_code",
    "proxies",
)

VOCABULARY_FILE = "vocab.json"
SETTINGS_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
CONFIG_FILE = "config.json"

#: Where chat templates lie. Older releases wrote them into the settings.
_CHAT_TEMPLATE_FILE, _OTHER_CHAT_TEMPLATES = "chat_template.jinja", "additional_chat_templates"

BUILD_ONE = (
    "build one: vocabulary = build_vocabulary(texts); "
    "Wav2Vec2CTCTokenizer.from_vocabulary(vocabulary).save_pretrained(folder)"
)


class TokenizerFileError(OSError):
    """A file of a tokenizer that is missing or cannot be read, and what would be right."""


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that say where files come from, and the others without those that Auto classes add."""
    rest = {name: value for name, value in options.items() if name not in (*HUB_OPTIONS, *_OF_AUTO_CLASSES)}
    return hub_options(options), rest


def find_file(source: str | os.PathLike[str], name: str, hub: Mapping[str, Any]) -> Path | None:
    """Where the file is on this machine: in the folder `source`, or fetched from the Hub; None when there is none."""
    source = located(source)
    folder = Path(source)
    if folder.is_dir():
        subfolder = Path(hub.get("subfolder") or "")
        if subfolder.is_absolute() or ".." in subfolder.parts:
            raise TokenizerFileError(f"subfolder={str(subfolder)!r} leads out of {source}")
        path = folder / subfolder / name
        return path if path.is_file() else None
    if not folder.exists() and (folder.is_absolute() or str(source).startswith(".")):
        raise TokenizerFileError(f"{source}: no such folder")
    if folder.exists():
        raise TokenizerFileError(f"{source} is a file: from_pretrained wants the folder, or a name on the Hub")
    return local_path(source, name, hub)


def read_json(path: str | os.PathLike[str], unique_keys: bool = False) -> Any:
    """The content of a JSON file. Whatever is wrong with it is one `TokenizerFileError`.

    JSON readers keep the last of two equal keys; `unique_keys` refuses them: a token would lose its first id.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_once if unique_keys else None)
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        kind = "cannot be read" if isinstance(error, OSError) else "is not sound JSON"
        raise TokenizerFileError(f"{path} {kind} ({type(error).__name__}: {error})") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"{key!r} is there twice, as {content[key]!r} and {value!r}")
        content[key] = value
    return content


def write_json(path: Path, content: object) -> None:
    """Sorted and readable, with characters as they are; a file that is there is replaced whole."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    with replaced_file(path) as file:
        file.write(text.encode("utf-8"))


@dataclass
class TokenizerFiles:
    """The files' content in one shape, whichever release wrote them."""

    #: The folder or the name on the Hub.
    source: str
    #: Tokens and ids, or one such object per language.
    vocabulary: Any
    #: What `tokenizer_config.json` says.
    settings: dict[str, Any] = field(default_factory=dict)
    #: Tokens that were added to the vocabulary, by id.
    added: dict[int, str] = field(default_factory=dict)
    #: What the model's `config.json` says.
    config: dict[str, Any] = field(default_factory=dict)


def read_tokenizer_files(source: str | os.PathLike[str], hub: Mapping[str, Any]) -> TokenizerFiles:
    """Read all files of a tokenizer that are there; only `vocab.json` has to be."""
    path = find_file(source, VOCABULARY_FILE, hub)
    if path is None:
        searched = "" if Path(source).is_dir() else " (offline, only what was fetched before is found)"
        raise TokenizerFileError(
            f"{source} has no {VOCABULARY_FILE}{searched}, so no tokenizer: pretrained models have none, and of "
            f"fine-tuned ones it may not have been saved. Copy it from the training run, or {BUILD_ONE}"
        )
    settings = _read_object(source, SETTINGS_FILE, hub)
    settings |= settings.pop("model_specific_special_tokens", None) or {}
    if "added_tokens_decoder" in settings:
        added = _added_tokens(settings.pop("added_tokens_decoder"), SETTINGS_FILE)
    else:
        settings |= _read_object(source, SPECIAL_TOKENS_FILE, hub)
        by_token = _read_object(source, ADDED_TOKENS_FILE, hub)
        check_tokens(by_token or {"-": 0}, ADDED_TOKENS_FILE)
        added = _added_tokens({index: token for token, index in by_token.items()}, ADDED_TOKENS_FILE)
    config = _read_object(source, CONFIG_FILE, hub)
    return TokenizerFiles(str(source), read_json(path, unique_keys=True), settings, added, config)


def _read_object(source: str | os.PathLike[str], name: str, hub: Mapping[str, Any]) -> dict[str, Any]:
    path = find_file(source, name, hub)
    content = {} if path is None else read_json(path)
    if not isinstance(content, dict):
        raise TokenizerFileError(f"{source}: {name} must be an object, it is {type(content).__name__}")
    nested = content.get("model_specific_special_tokens")
    if nested is not None and not isinstance(nested, dict):
        raise TokenizerFileError(f"{source}: {name}: model_specific_special_tokens must be an object")
    return content


def _added_tokens(content: object, name: str) -> dict[int, str]:
    if not isinstance(content, dict):
        raise TokenizerFileError(f"{name}: added_tokens_decoder must be an object of ids and tokens")
    added: dict[int, str] = {}
    for key, value in content.items():
        index = int(key) if str(key).isascii() and str(key).isdigit() and len(str(key)) < 16 else None
        token = token_text(value, f"{name}: added token {key}")
        if index is None or token is None:
            raise TokenizerFileError(f"{name}: added token {key!r}: {value!r} is not an id and a token")
        added[index] = token
    return added


def token_text(value: object, where: str) -> str | None:
    """A token as a string, whether it is written as one or as an object with `content`."""
    if isinstance(value, Mapping):
        value = value.get("content", 0)
    if value is not None and not isinstance(value, str):
        raise TokenizerFileError(f"{where}: {value!r} is not a token")
    return value


def read_chat_template(source: str | os.PathLike[str], written: object, hub: Mapping[str, Any]) -> Any:
    """The chat templates of a tokenizer: one, several by name, or None. No recogniser has a use for them, but what is
    saved with one must come back. A file goes before `written`, which is what the settings say. Templates beside the
    default are looked for in folders alone: each would be a question to the Hub."""
    default = find_file(source, _CHAT_TEMPLATE_FILE, hub)
    folder = Path(source, hub.get("subfolder") or "", _OTHER_CHAT_TEMPLATES)
    others = sorted(folder.glob("*.jinja")) if folder.is_dir() else []
    if default is None and not others:
        return _templates_of_settings(written, source)
    if default is not None and not others:
        return _template(default)
    named = {"default": default} if default is not None else {}
    return {name: _template(path) for name, path in (named | {path.stem: path for path in others}).items()}


def _templates_of_settings(written: object, source: str | os.PathLike[str]) -> Any:
    if isinstance(written, list):
        pairs = [(one.get("name"), one.get("template")) for one in written if isinstance(one, dict)]
        if len(pairs) == len(written) and all(isinstance(part, str) for pair in pairs for part in pair):
            return dict(pairs)
    if written is None or isinstance(written, str):
        return written
    raise TokenizerFileError(f"{source}: {SETTINGS_FILE}: chat_template must be a text or a list of named ones")


def _template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerFileError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
