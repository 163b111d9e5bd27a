"""Checkpoints: every published spelling is read, what is missing is named or refused, and no file can run code."""

import json
import logging
import os
import pickle
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError
from torch import nn

logger = logging.getLogger("wav2vec2")

#: What `from_pretrained` is given: a folder, a name on the Hub, or None where a state dict is handed over instead.
Source: TypeAlias = str | os.PathLike[str] | None

_POSITIONAL = "pos_conv_embed.conv."
_PARAMETRISED = f"{_POSITIONAL}parametrizations.weight.original"

#: The spelling of the positional convolution before torch 2.
OLD_SPELLING = {
    re.escape(f"{_POSITIONAL}weight_g") + "$": f"{_PARAMETRISED}0",
    re.escape(f"{_POSITIONAL}weight_v") + "$": f"{_PARAMETRISED}1",
}
#: A weight whose norm was folded in. It becomes v; a g that no file has is initialised as the norm of v, which fits.
FOLDED_SPELLING = {re.escape(f"{_POSITIONAL}weight") + "$": f"{_PARAMETRISED}1"}

#: Parts that may be new: they are initialised and named. Everything else must be in the checkpoint.
FRESH_PARTS = ("masked_spec_embed", "wav2vec2.masked_spec_embed", "wav2vec2.adapter.", "adapter.")


class CheckpointError(OSError, RuntimeError, ValueError):
    """A checkpoint that cannot be used as it is, and why. Stock Transformers raises the first for files that are not
    there, the second for tensors that do not fit, and this package the third for what it is given and cannot use;
    whoever catches any of them catches this."""


#: The functions of Transformers and torch that read weight files, and what they raise on contents they do not expect.
_READERS = frozenset(
    ("load_state_dict", "_get_dtype", "get_state_dict_dtype", "get_checkpoint_shard_files", "_load_pretrained_model")
)
_SURPRISES = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)


@contextmanager
def readable_errors(source: Source) -> Iterator[None]:
    """Turn what the readers raise on a damaged file into one `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except (SafetensorError, pickle.UnpicklingError, EOFError, json.JSONDecodeError) as error:
        raise CheckpointError(_damaged(source, error)) from error
    except _SURPRISES as error:
        if isinstance(error, FileNotFoundError | PermissionError) or not _while_reading(error):
            raise
        raise CheckpointError(_damaged(source, error)) from error


def _while_reading(error: BaseException) -> bool:
    """Whether the error left a reader that does not explain itself; those that name what is missing do."""
    frames = list(traceback.walk_tb(error.__traceback__))
    explained = isinstance(error, OSError) and error.errno is None
    converting = isinstance(error, RuntimeError) and "conversion of the weights" in str(error)
    return not explained and not converting and any(frame.f_code.co_name in _READERS for frame, _ in frames)


def _damaged(source: Source, error: Exception) -> str:
    return (
        f"{source}: a weight file is truncated or corrupt ({type(error).__name__}: {error}). Fetch or write it again."
    )


def check_index(source: Source, subfolder: str = "") -> None:
    """Refuse the index of a local checkpoint in pieces that is no index, or names files outside its folder."""
    folder = None if source is None else Path(source) / subfolder
    if folder is None or not folder.is_dir():
        return
    for index in folder.glob("*.index*.json"):
        with readable_errors(index):
            content = json.loads(index.read_text(encoding="utf-8"))
        pieces = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(pieces, dict) or not all(isinstance(piece, str) for piece in pieces.values()):
            raise CheckpointError(f"{index}: corrupt, has no weight_map from tensors to files")
        for piece in sorted(set(pieces.values())):
            if Path(piece).name != piece:
                raise CheckpointError(f"{index}: names {piece!r}, which is outside its folder")


@contextmanager
def without_load_report() -> Iterator[None]:
    """Keep Transformers' own table of missing and unexpected tensors back: `audit` says it in words."""
    stock = logging.getLogger("transformers.modeling_utils")

    def keep(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return "LOAD REPORT" not in message or "CONVERSION" in message  # a failed quantisation explains itself there

    stock.addFilter(keep)
    try:
        yield
    finally:
        stock.removeFilter(keep)


def audit(
    model: nn.Module, source: Source, info: dict[str, Any], fresh_parts: Iterable[str], allow_other_shapes: bool = False
) -> None:
    """Raise `CheckpointError` for tensors that are missing or misshapen; name what is new and what is not used.

    A part that may be new is new as a whole: half a head is an error.
    """
    expected = list(model.state_dict())
    missing = set(info["missing_keys"])
    mismatched = sorted(info["mismatched_keys"])
    fresh, lost = _split_missing(missing, expected, (*FRESH_PARTS, *fresh_parts))
    complaints = [f"{key}: missing" for key in sorted(lost)]
    if not allow_other_shapes:
        complaints += [
            f"{key}: {tuple(saved)} in the checkpoint, {tuple(wanted)} in the model"
            for key, saved, wanted in mismatched
        ]
    unexpected = sorted(info["unexpected_keys"])
    if complaints:
        also = f"\n  not used: {', '.join(unexpected)}" if unexpected else ""
        hint = ""
        if mismatched and not lost:
            hint = "\nIf other shapes are meant to start afresh, pass ignore_mismatched_sizes=True."
        listing = "\n  ".join(complaints)
        raise CheckpointError(f"{source} does not fit {type(model).__name__}:\n  {listing}{also}{hint}")
    _tell(source, "starts afresh, not in the checkpoint", fresh)
    _tell(source, "starts afresh, of another shape in the checkpoint", [key for key, *_ in mismatched])
    upper = _upper_layers(model, unexpected)
    if upper:
        told = "%s: of its %d Transformer layers the first %d are used (num_hidden_layers)"
        logger.warning(told, source, upper[-1] + 1, upper[0])
    others = [key for key in unexpected if _layer_number(key) not in upper]
    _tell(source, "in the checkpoint, but not part of this model", others)


def _upper_layers(model: nn.Module, keys: Iterable[str]) -> list[int]:
    """The numbers of the Transformer layers, among tensors that are not used, that this model is too short for."""
    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    numbers = {_layer_number(key) for key in keys}
    return sorted(number for number in numbers if number is not None and count is not None and number >= count)


def _layer_number(key: str) -> int | None:
    found = re.search(r"\bencoder\.layers\.(\d+)\.", key)
    return None if found is None else int(found[1])


def _tell(source: Source, what: str, keys: Iterable[str]) -> None:
    names = sorted(keys)
    if names:
        logger.warning("%s: %s: %s", source, what, ", ".join(names))


def _split_missing(missing: set[str], expected: list[str], parts: Iterable[str]) -> tuple[set[str], set[str]]:
    """Missing tensors of parts that are new as a whole, and all others."""
    fresh: set[str] = set()
    for part in parts:
        members = {key for key in expected if _belongs(key, part)}
        if members and members <= missing:
            fresh |= members
    return fresh, missing - fresh


def _belongs(key: str, part: str) -> bool:
    """A part is a name, a prefix that ends in a dot, or a piece between two dots such as ".adapter_layer."."""
    if part.startswith("."):
        return part in key
    return key.startswith(part) if part.endswith(".") else key == part


def load_checked(
    load: Callable[..., Any], source: Source, fresh_parts: Iterable[str], **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Call Transformers' `from_pretrained` so that it reads every spelling, and audit what it did."""
    if options.pop("weights_only", True) is not True:
        raise ValueError("weights_only=False: a checkpoint may never run code; convert it to safetensors")
    allow_other_shapes = options.pop("ignore_mismatched_sizes", False)
    renamed = options.pop("key_mapping", None) or {}
    told = "a state dict" if source is None else source
    check_index(source, options.get("subfolder", ""))

    def attempt(spelling: dict[str, str]) -> tuple[Any, dict[str, Any]]:
        with readable_errors(told), without_load_report():
            loaded: tuple[Any, dict[str, Any]] = load(
                source,
                key_mapping={**OLD_SPELLING, **spelling, **renamed},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **options,
            )
        return loaded

    model, info = attempt({})
    if any(key.endswith(f"{_POSITIONAL}weight") for key in info["unexpected_keys"]):
        model, info = attempt(FOLDED_SPELLING)
        derived = {key for key in info["missing_keys"] if key.endswith(f"{_PARAMETRISED}0")}
        info["missing_keys"] = set(info["missing_keys"]) - derived
    audit(model, told, info, fresh_parts, allow_other_shapes)
    _forget_renamings(model)
    return model, info


def _forget_renamings(model: nn.Module) -> None:
    """Let the model be saved under today's names, whatever the loaded file called its tensors."""
    from transformers.core_model_loading import WeightRenaming

    conversions = getattr(model, "_weight_conversions", None) or []
    model._weight_conversions = [c for c in conversions if not isinstance(c, WeightRenaming)]  # type: ignore[assignment]
