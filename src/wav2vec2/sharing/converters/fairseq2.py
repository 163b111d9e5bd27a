"""fairseq2 and omnilingual-asr: models for pretraining and for CTC.

A file holds `model` alone. The characters lie in a model of sentencepiece; the settings lie in neither.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from wav2vec2.sharing.converters.lazy_tensors import LazyTensor, MadeTensor
from wav2vec2.sharing.converters.portable_model import (
    CTC,
    PRETRAINING,
    TRUNK,
    Given,
    PortableModel,
    arrange_head,
    assembled,
    under_their_names,
)
from wav2vec2.sharing.converters.sentencepiece_files import write_pieces
from wav2vec2.sharing.converters.torch_file_writing import write_torch_file
from wav2vec2.sharing.converters.vocabularies import SPACE_PIECE, Vocabulary, arranged_for_fairseq, read_vocabulary

CHECKPOINT, TOKENIZER = "checkpoint.pt", "tokenizer.model"
#: How many updates its Gumbel temperature has seen.
_UPDATES = "quantizer.num_updates"


def is_fairseq2(names: Sequence[str]) -> bool:
    """Whether tensors are called as fairseq2 calls them."""
    return any(name.startswith("encoder_frontend.") for name in names)


def read_fairseq2(source: Path, tensors: Mapping[str, LazyTensor], given: Given) -> PortableModel:
    """A model of fairseq2."""
    tensors = dict(tensors)
    known: dict[str, Any] = {"do_stable_layer_norm": "encoder.layer_norm.weight" in tensors}
    updates = tensors.pop(_UPDATES, None)
    if updates is not None and updates.shape == ():
        known["pretraining_updates"] = int(updates.read().item())
    return assembled(source, "fairseq2", tensors, known, given, lambda: _characters(source))


def _characters(source: Path) -> Vocabulary | None:
    """Those of the one model of sentencepiece beside the file, if there is one."""
    beside = sorted(source.parent.glob("*.model"))
    return read_vocabulary(beside[0]) if len(beside) == 1 else None


def write_fairseq2(model: PortableModel, folder: Path) -> None:
    """Write `checkpoint.pt`, and for CTC `tokenizer.model`."""
    if model.architecture == CTC and model.vocabulary is not None:
        arranged = arranged_for_fairseq(model.vocabulary, SPACE_PIECE)
        arrange_head(model, arranged, "fairseq2")
        write_pieces(folder / TOKENIZER, arranged.tokens)
    tensors = under_their_names(model, "fairseq2")
    if model.architecture == CTC and not model.config.apply_spec_augment:
        tensors.pop("masker.temporal_mask_embed", None)
        model.notes.append("apply_spec_augment is off: written for use_masking=False, without a mask embedding")
    if model.architecture == PRETRAINING:
        tensors[_UPDATES] = MadeTensor(torch.tensor(model.config.pretraining_updates))
    if model.architecture == TRUNK:
        model.notes.append("no head: fairseq2 has no such model, load it with strict=False")
    write_torch_file(folder / CHECKPOINT, {"model": tensors})
