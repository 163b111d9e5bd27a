"""Networks on log-mel energies, beside which wav2vec 2.0 is judged: each is one file, trained from random weights.

Read `crnn.py` first. `spectrogram_model.py` has what they share: what they hear, and what the training loop,
`Transcriber` and alignment ask of them.
"""
