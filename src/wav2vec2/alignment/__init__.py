"""Which frame says which token: forced alignment, words, and the times of frames."""
