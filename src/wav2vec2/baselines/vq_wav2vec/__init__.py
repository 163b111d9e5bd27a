"""vq-wav2vec (Baevski et al. 2019, arXiv 1910.05453): wav2vec whose frames are entries of codebooks.

`gumbel_codebook.py` and `nearest_codebook.py` are its two ways to choose an entry; all else is wav2vec.
"""
