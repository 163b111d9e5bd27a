"""Files of fairseq that hold wav2vec (2019) or vq-wav2vec, as folders for `from_pretrained`, and back."""

import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wav2vec2.baselines import VQWav2VecConfig, Wav2VecConfig
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.sharing.converters.ancestors import model_class, to_fairseq, to_ours


def read_file(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of a `.pt` file. Of its pickle nothing runs: beside tensors and plain values it may name
    `argparse.Namespace` alone, which holds the settings; anything else is refused before it is made."""
    try:
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({type(error).__name__}: {error})") from error
    model = content.get("model") if isinstance(content, dict) else None
    args = content.get("args") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(args, Namespace):
        raise CheckpointError(f"{path}: has no `model` and `args`, as fairseq saves them")
    if wrong := [str(name) for name, one in model.items() if not (isinstance(name, str) and isinstance(one, Tensor))]:
        raise CheckpointError(f"{path}: no tensors: {', '.join(wrong)}")
    return model, vars(args)


def ancestor_from_fairseq(source: Path | str, folder: Path | str) -> None:
    """A file of fairseq, as `wav2vec_large.pt`, as a folder for `from_pretrained`, feature extractor included."""
    config, tensors = to_ours(*read_file(source))
    with torch.device("meta"):
        model = model_class(config)(config)
    model.load_state_dict(tensors, assign=True)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)


def ancestor_to_fairseq(source: Path | str, path: Path | str) -> None:
    """A folder as a file that fairseq reads."""
    config = (VQWav2VecConfig if _is_vq(source) else Wav2VecConfig).from_pretrained(source)
    model = model_class(config).from_pretrained(source, config=config)
    tensors, settings = to_fairseq(model.state_dict(), config)
    torch.save({"args": Namespace(**settings), "model": tensors}, path)


def _is_vq(source: Path | str) -> bool:
    said, _ = Wav2VecConfig.get_config_dict(source)
    return said.get("model_type") == VQWav2VecConfig.model_type
