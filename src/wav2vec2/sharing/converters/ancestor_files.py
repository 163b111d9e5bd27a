"""wav2vec (2019) and vq-wav2vec, in files of fairseq and in folders for `from_pretrained`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wav2vec2.baselines import VQWav2VecConfig, Wav2VecConfig
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.sharing.converters.ancestors import model_class, to_fairseq, to_ours
from wav2vec2.sharing.converters.inert_pickles import plain
from wav2vec2.sharing.converters.lazy_tensors import LazyTensor, MadeTensor
from wav2vec2.sharing.converters.torch_file_writing import PickledObject, write_torch_file
from wav2vec2.sharing.converters.transformers import CONFIG

_CONFIGS = {one.model_type: one for one in (Wav2VecConfig, VQWav2VecConfig)}


class AncestorModel(NamedTuple):
    """A model, and the framework that it came from."""

    origin: str
    config: Wav2VecConfig
    #: By our names.
    tensors: dict[str, LazyTensor]

    @property
    def architecture(self) -> str:
        """The class that it is for."""
        return model_class(self.config).__name__

    @property
    def notes(self) -> list[str]:
        """What was left behind: nothing."""
        return []


def is_ancestor(names: Iterable[str]) -> bool:
    """Whether fairseq calls tensors of such a model so."""
    return any(name.startswith("feature_aggregator.") for name in names)


def ancestor_in_file(source: Path, content: Mapping[str, Any], tensors: Mapping[str, LazyTensor]) -> AncestorModel:
    """A model of fairseq. `content` is all that its file holds, and `tensors` those of the model."""
    settings = plain(content.get("args")) or plain(content.get("cfg"))
    if not isinstance(settings, dict):
        raise CheckpointError(f"{source}: has no settings (args), which say what the tensors are of")
    inner = settings.get("model")
    try:
        return AncestorModel("fairseq", *to_ours(tensors, settings | inner if isinstance(inner, dict) else settings))
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error


def ancestor_in_folder(folder: Path) -> AncestorModel | None:
    """The model of a folder, None if it is of another kind."""
    said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    kind = _CONFIGS.get(str(said.get("model_type"))) if isinstance(said, dict) else None
    if kind is None:
        return None
    config = kind.from_pretrained(folder)
    model = model_class(config).from_pretrained(folder, config=config)
    return AncestorModel("transformers", config, {name: MadeTensor(one) for name, one in model.state_dict().items()})


def write_ancestor(model: AncestorModel, to: str, folder: Path) -> None:
    """Write it for the other of the two frameworks that know it."""
    if to == "fairseq":
        tensors, settings = to_fairseq(model.tensors, model.config)
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
        args = PickledObject("argparse", "Namespace", listed)
        write_torch_file(folder / "checkpoint.pt", {"args": args, "model": tensors})
        return
    with torch.device("meta"):
        empty = model_class(model.config)(model.config)
    empty.load_state_dict({name: tensor.read() for name, tensor in model.tensors.items()}, assign=True)
    empty.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
