"""The checkpoint that `model.checkpoint` names: whether it is one, before hours of audio are looked through, and which
values of `model.config` its weights can have.
"""

from pathlib import Path
from typing import Any

import torch

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.training.settings.run_sections import ModelSection

_CONFIG = "config.json"
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "model*.safetensors.index.json")

#: What weights were trained for and no shape of theirs tells: under another value they load, and compute nonsense.
LAYOUT = (
    "do_stable_layer_norm",
    "num_attention_heads",
    "conv_stride",
    "hidden_act",
    "feat_extract_activation",
)


def require_checkpoint(model: ModelSection) -> None:
    """A `CheckpointError` if `model.checkpoint` is neither a folder with a model nor a name on the Hub, or if
    `model.config` does not go with it. Of the Hub only the configuration is fetched."""
    if model.checkpoint is None:
        return
    place, said = Path(model.checkpoint), f"model.checkpoint={model.checkpoint}"
    if place.is_dir():
        _require_model_folder(place, said)
    elif place.exists():
        raise CheckpointError(f"{said}: is a file; give the folder that holds {_CONFIG} and model.safetensors")
    elif place.is_absolute() or len(place.parts) > 2 or model.checkpoint.startswith((".", "~")):
        raise CheckpointError(f"{said}: no such folder, nor a name on the Hub")
    try:
        checkpoint_config(model)
    except OSError as error:
        if place.is_dir():
            raise
        told = " ".join(str(error).split())
        raise CheckpointError(
            f"{said}: no such folder, and as a name on the Hub it cannot be loaded: {told}"
        ) from error


def checkpoint_config(model: ModelSection, **others: Any) -> Wav2Vec2Config:
    """The configuration of the checkpoint with the section's values, but for those of `LAYOUT`, and with `others`."""
    given = {name: value for name, value in model.config.items() if name not in LAYOUT}
    config = Wav2Vec2Config.from_pretrained(model.checkpoint, **{**given, **others})
    config.check()  # Transformers puts in what is given after it has checked the values of the file
    return config


def load_under_new_head(
    kind: Any, checkpoint: str, config: Wav2Vec2Config, head: str, options: dict[str, Any]
) -> tuple[Any, list[str]]:
    """A checkpoint's weights in float32 under a head (the module of this name) that may have another size, and the
    parameters beside the head that the checkpoint does not have. Others that do not fit are a `CheckpointError`."""
    model, info = kind.from_pretrained(
        checkpoint,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # those of the head; others are refused here
        **options,
    )
    wrong = [
        f"{name}: {tuple(saved)} in the checkpoint, {tuple(wanted)} in the model"
        for name, saved, wanted in info["mismatched_keys"]
        if not name.startswith(f"{head}.")
    ]
    if wrong:
        raise CheckpointError("\n  ".join([f"{checkpoint} does not fit model.config:", *sorted(wrong)]))
    return model, sorted(name for name in info["missing_keys"] if not name.startswith(f"{head}."))


def layout_notes(model: ModelSection, config: Wav2Vec2Config) -> list[str]:
    """A sentence on each value that was asked for and is the checkpoint's own instead."""
    notes = []
    for name in LAYOUT:
        asked, own = model.config.get(name), getattr(config, name)
        if model.checkpoint is not None and name in model.config and _plain(asked) != _plain(own):
            notes.append(f"model.config.{name}={asked} is not used: the checkpoint was trained with {own}")
    return notes


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _require_model_folder(place: Path, said: str) -> None:
    lacking = [] if (place / _CONFIG).is_file() else [_CONFIG]
    if not any(file for pattern in _WEIGHTS for file in place.glob(pattern)):
        lacking.append("model.safetensors")
    if not lacking:
        return
    inside = place / "model"
    hint = f"; did you mean {inside}?" if (inside / _CONFIG).is_file() else ""
    raise CheckpointError(f"{said}: the folder has no {' and no '.join(lacking)}{hint}")
