"""Checkpoints of other frameworks as ours, and back."""

from wav2vec2.sharing.converters.ancestor_files import ancestor_from_fairseq, ancestor_to_fairseq

__all__ = ["ancestor_from_fairseq", "ancestor_to_fairseq"]
