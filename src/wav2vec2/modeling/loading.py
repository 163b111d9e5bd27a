"""Checkpoints: every published spelling is read, nothing is missing without a word, no file can run code."""

import json
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from safetensors import SafetensorError
from torch import nn

logger = logging.getLogger("wav2vec2")

_POSITIONAL = "pos_conv_embed.conv."
_PARAMETRISED = f"{_POSITIONAL}parametrizations.weight.original"

#: Old and folded spellings of the positional convolution. A folded weight becomes v; its g is then v's own norm, which
#: is how a g that no file has is initialised.
SPELLINGS = {
    rf"{_POSITIONAL}weight_g$".replace(".", r"\."): f"{_PARAMETRISED}0",
    rf"{_POSITIONAL}weight_v$".replace(".", r"\."): f"{_PARAMETRISED}1",
    rf"{_POSITIONAL}weight$".replace(".", r"\."): f"{_PARAMETRISED}1",
}

#: Parts that may be new: they are initialised and named. Everything else must be in the checkpoint.
FRESH_PARTS = ("masked_spec_embed", "wav2vec2.masked_spec_embed", "wav2vec2.adapter.", "adapter.")


class CheckpointError(OSError):
    """A checkpoint that cannot be used as it is, and why."""


@contextmanager
def readable_errors(source: Any) -> Iterator[None]:
    """Turn what the readers raise on a damaged file into one `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except (SafetensorError, pickle.UnpicklingError, EOFError, json.JSONDecodeError) as error:
        raise CheckpointError(_damaged(source, error)) from error
    except (RuntimeError, ValueError) as error:
        signs = ("PytorchStreamReader", "zip archive", "storage has wrong byte size", "empty file")
        if not any(sign in str(error) for sign in signs):
            raise
        raise CheckpointError(_damaged(source, error)) from error


def _damaged(source: Any, error: Exception) -> str:
    return (
        f"{source}: a weight file is truncated or corrupt ({type(error).__name__}: {error}). Fetch or write it again."
    )


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
    model: nn.Module,
    source: Any,
    info: dict[str, Any],
    fresh_parts: Iterable[str],
    allow_other_shapes: bool = False,
) -> None:
    """Raise `CheckpointError` for tensors that are missing or misshapen; name what is new and what is not used.

    A part that may be new is new as a whole: half a head is an error.
    """
    expected = list(model.state_dict())
    missing = _without_derived(set(info["missing_keys"]), expected)
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
    _tell(source, "in the checkpoint, but not part of this model", unexpected)


def _tell(source: Any, what: str, keys: Iterable[str]) -> None:
    names = sorted(keys)
    if names:
        logger.warning("%s: %s: %s", source, what, ", ".join(names))


def _without_derived(missing: set[str], expected: list[str]) -> set[str]:
    """The positional g is computed from v when v came from a folded weight."""
    derived = {key for key in missing if key.endswith(f"{_PARAMETRISED}0") and f"{key[:-1]}1" not in missing}
    return missing - (derived & set(expected))


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
    load: Callable[..., Any], source: Any, fresh_parts: Iterable[str], **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Call Transformers' `from_pretrained` so that it reads every spelling, and audit what it did."""
    if options.pop("weights_only", True) is not True:
        raise ValueError("weights_only=False: a checkpoint may never run code; convert it to safetensors")
    allow_other_shapes = options.pop("ignore_mismatched_sizes", False)
    options["key_mapping"] = {**SPELLINGS, **(options.pop("key_mapping", None) or {})}
    told = "a state dict" if source is None else source
    with readable_errors(told), without_load_report():
        model, info = load(source, ignore_mismatched_sizes=True, output_loading_info=True, **options)
    audit(model, told, info, fresh_parts, allow_other_shapes)
    _forget_renamings(model)
    return model, info


def _forget_renamings(model: nn.Module) -> None:
    """Save under today's names, whatever the loaded file called them."""
    from transformers.core_model_loading import WeightRenaming

    conversions = getattr(model, "_weight_conversions", None) or []
    model._weight_conversions = [c for c in conversions if not isinstance(c, WeightRenaming)]  # type: ignore[assignment]
