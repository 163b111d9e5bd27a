"""torchaudio: state dicts of `torchaudio.models.Wav2Vec2Model`, and the files of its pipelines.

The file is the state dict itself. There are no settings in it, and no labels.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.converters.lazy_tensors import LazyTensor
from wav2vec2.sharing.converters.portable_model import (
    CTC,
    Given,
    PortableModel,
    arrange_head,
    assembled,
    under_their_names,
)
from wav2vec2.sharing.converters.torch_file_writing import write_torch_file
from wav2vec2.sharing.converters.vocabularies import Vocabulary, arranged_for_torchaudio, read_vocabulary

CHECKPOINT, LABELS = "checkpoint.pt", "labels.txt"

#: Models that were made with torchaudio 2.3 or later call the norms and directions of the positional convolution so.
_PARAMETRISED = re.compile(r"(pos_conv_embed\.conv\.)parametrizations\.weight\.original([01])$")
#: A pipeline that normalises waveforms holds its model under this name.
_WRAPPED = "model."


def is_torchaudio(names: Sequence[str]) -> bool:
    """Whether tensors are called as torchaudio calls them."""
    marks = ("encoder.transformer.", "encoder.feature_projection.")
    return any(name.removeprefix(_WRAPPED).startswith(marks) for name in names)


def read_torchaudio(source: Path, tensors: Mapping[str, LazyTensor], given: Given) -> PortableModel:
    """A model of torchaudio."""
    plainly = {_plain_name(name): tensor for name, tensor in tensors.items()}
    return assembled(source, "torchaudio", plainly, {}, given, lambda: _labels(source))


def _plain_name(name: str) -> str:
    return _PARAMETRISED.sub(lambda found: f"{found[1]}weight_{'gv'[int(found[2])]}", name.removeprefix(_WRAPPED))


def _labels(source: Path) -> Vocabulary | None:
    path = source.parent / LABELS
    return read_vocabulary(path) if path.is_file() else None


def write_torchaudio(model: PortableModel, folder: Path) -> None:
    """Write `checkpoint.pt`, which `load_state_dict` takes, and for CTC `labels.txt`, one in a line."""
    if model.architecture == CTC and model.vocabulary is not None:
        arranged = arranged_for_torchaudio(model.vocabulary)
        arrange_head(model, arranged, "torchaudio")
        if broken := [token for token in arranged.tokens if "\n" in token or "\r" in token]:
            raise CheckpointError(f"{LABELS}: has one label in a line, and {broken} would be several")
        (folder / LABELS).write_text("".join(f"{token}\n" for token in arranged.tokens), encoding="utf-8")
    write_torch_file(folder / CHECKPOINT, under_their_names(model, "torchaudio"))
