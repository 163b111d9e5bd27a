"""Tuning a part of a model: an MMS language adapter and the head, or LoRA and the head.

Both choose which parameters are trained, and what a checkpoint's folder holds beside the model:

* `adapter`: `adapter.<language>.safetensors`, which `set_language` here and `load_adapter` of stock Transformers read;
* `lora`: `lora/`, a PEFT adapter. The model in the folder has it merged, so that the folder is complete without PEFT;
  what training goes on from, with the additions apart, is in `training_state/weights.safetensors`.

The files are written from the folder's own `model.safetensors`, in which the tensors are whole, whatever trained them.
"""

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wav2vec2.modeling.for_ctc import Wav2Vec2ForCTC
from wav2vec2.modeling.language_adapters import language_parameters
from wav2vec2.modeling.pretrained_model import Wav2Vec2PreTrainedModel
from wav2vec2.training.saving.checkpoints import TRAINING_WEIGHTS, Saveable
from wav2vec2.training.settings.random_seeds import seed_of
from wav2vec2.training.settings.run_config import TuningSection

if TYPE_CHECKING:
    from peft import LoraConfig

#: The folder of the PEFT adapter inside a model's folder.
LORA_FOLDER = "lora"

_WEIGHTS = "model.safetensors"


class TuningError(ValueError):
    """A way of tuning that does not go with this model, and what would."""


def apply_tuning(model: Wav2Vec2PreTrainedModel, tuning: TuningSection, seed: int = 0) -> list[Saveable]:
    """Leave only what `tuning` asks for to be trained, in place; what must be saved beside the model.

    New weights follow from `seed` alone, the same on all processes.

    Call it after the head has its final size and before the optimizer is made. The list goes behind the feature
    extractor or processor in `saved_beside`. With "full" nothing changes, and the list is empty.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("tuning", seed))
        if tuning.method == "adapter":
            return [train_language_adapter(model, tuning.language or "")]
        if tuning.method == "lora":
            return [add_lora(model, tuning)]
    return []


class LanguageAdapterFile:
    """Writes the adapter and head of one language beside the model."""

    def __init__(self, language: str, names: list[str]) -> None:
        self.language = language
        self.names = names

    def save_pretrained(self, save_directory: str | os.PathLike[str], /) -> Path:
        """Take the language's tensors out of the folder's model; the file that was written."""
        folder = Path(save_directory)
        stored = load_file(folder / _WEIGHTS)
        return write_language_adapter(folder, self.language, {name: stored[name] for name in self.names})


def write_language_adapter(folder: Path, language: str, tensors: Mapping[str, Tensor]) -> Path:
    """`adapter.<language>.safetensors` as MMS has it: all adapters and the head, by their names in the model."""
    if not language or Path(language).name != language:
        raise TuningError(f"{language!r} is not the name of a language, as 'eng' or 'fao'")
    path = folder / f"adapter.{language}.safetensors"
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, {"format": "pt"})
    return path


def train_language_adapter(model: Wav2Vec2PreTrainedModel, language: str) -> LanguageAdapterFile:
    """Train the adapters of all layers and the head, nothing else.

    The adapters start afresh, unless the model has been switched to `language` already: then its own are trained
    further. The head stays as it is.
    """
    if getattr(model.config, "adapter_attn_dim", None) is None or not isinstance(model, Wav2Vec2ForCTC):
        raise TuningError(
            "tuning.method=adapter: this model has no language adapters; start from an MMS checkpoint, or give its "
            "layers some with model.config.adapter_attn_dim=16"
        )
    if not model.config.do_stable_layer_norm:
        raise TuningError("tuning.method=adapter: only layers with do_stable_layer_norm=True have language adapters")
    if model.target_lang != language:
        head = copy.deepcopy(model.lm_head.state_dict())
        model.init_adapter_layers()
        model.lm_head.load_state_dict(head)
        model.target_lang = language
    names = language_parameters(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in names
    return LanguageAdapterFile(language, list(names))


def add_lora(model: Wav2Vec2PreTrainedModel, tuning: TuningSection) -> "LoraFiles":
    """Put low-rank additions beside the chosen linear layers; they and the head are trained, nothing else."""
    try:
        import peft
    except ImportError as error:
        raise ImportError("tuning.method=lora needs PEFT: pip install peft") from error
    targets, heads = _linear_layers(model, tuning.lora_targets), _head_modules(model)
    config = peft.LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=targets,
    )
    # The head is trained where it is, not in a copy beside it: its names in the model stay, and the saved adapter
    # has it as `modules_to_save` all the same.
    saved = replace(config, modules_to_save=heads, inference_mode=True)
    peft.inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".lora_" in name or name.split(".")[0] in heads
    return LoraFiles(saved, model.config.name_or_path)


class LoraFiles:
    """Turns the folder of a model with LoRA beside its layers into that of the merged model and its adapter."""

    def __init__(self, config: "LoraConfig", base: str) -> None:
        self.config = config
        self.scaling = config.lora_alpha / config.r
        # A folder of this machine says nothing elsewhere.
        config.base_model_name_or_path = None if not base or Path(base).exists() else base

    def save_pretrained(self, save_directory: str | os.PathLike[str], /) -> Path:
        """Merge the folder's model, and write the adapter and what training goes on from; the adapter's folder."""
        folder = Path(save_directory)
        apart = load_file(folder / _WEIGHTS)
        (folder / TRAINING_WEIGHTS).parent.mkdir(exist_ok=True)
        (folder / _WEIGHTS).rename(folder / TRAINING_WEIGHTS)
        save_file(merge_lora(apart, self.scaling), folder / _WEIGHTS, {"format": "pt"})
        adapter, heads = folder / LORA_FOLDER, self.config.modules_to_save
        self.config.save_pretrained(adapter)
        # under the names of PEFT's files: the additions, and the head as `modules_to_save`
        tensors = {
            f"base_model.model.{name.replace('.default.', '.')}": tensor
            for name, tensor in apart.items()
            if ".lora_" in name or name.split(".")[0] in heads
        }
        save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
        return adapter


def merge_lora(apart: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Weights with LoRA beside them -> ordinary weights: W + scaling B A, added up in float64.

    PEFT's `merge_and_unload` changes the model itself, which is to be trained on (and unmerging gives other bits), and
    under FSDP2 each process would merge its pieces. Here are the whole tensors that have been saved.
    """
    merged = {}
    for name, tensor in apart.items():
        if ".lora_" in name:
            continue
        layer, inside, kind = name.partition(".base_layer.")
        if inside and kind == "weight":
            below, above = (apart[f"{layer}.lora_{letter}.default.weight"].double() for letter in "AB")
            tensor = (tensor.double() + scaling * (above @ below)).to(tensor.dtype)
        merged[f"{layer}.{kind}" if inside else name] = tensor.contiguous()
    return merged


def _head_modules(model: Wav2Vec2PreTrainedModel) -> list[str]:
    """What stands on top of the pretrained model, as `lm_head`."""
    heads = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and next(module.parameters(), None) is not None
    ]
    loose = [name for name, _ in model.named_parameters(recurse=False)]
    if loose:
        raise TuningError(f"tuning.method=lora: {', '.join(loose)} is no module, so a LoRA adapter cannot hold it")
    return heads


def _linear_layers(model: Wav2Vec2PreTrainedModel, endings: list[str]) -> list[str]:
    """The full names of the linear layers of the pretrained model whose names end so."""
    body = model.base_model_prefix
    linear = [f"{body}.{name}" for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear)]
    found = {end: [name for name in linear if name == end or name.endswith(f".{end}")] for end in endings}
    missing = [end for end in endings if not found[end]]
    if missing:
        known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise TuningError(f"tuning.lora_targets: no linear layer is called {', '.join(missing)}; there are {known}")
    return sorted({name for names in found.values() for name in names})
