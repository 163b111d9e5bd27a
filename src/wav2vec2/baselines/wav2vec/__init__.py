"""wav2vec (Schneider et al. 2019, arXiv 1904.05862): convolutions alone, and predictions of what comes next.

Read `for_pretraining.py` first: encode, look back, predict. Each step has a file of its own.
"""
