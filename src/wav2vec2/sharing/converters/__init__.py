"""Checkpoints of other frameworks: read without them, and written for them.

`conversion.py` is the way from a source to a folder. `fairseq.py`, `fairseq2.py`, `torchaudio.py` and `transformers.py`
know one origin each; `tensor_names.py` holds the table of all names, side by side. wav2vec (2019) and vq-wav2vec, which
only fairseq has, go their own way: `ancestor_files.py` and `ancestors.py`.
"""
