"""Keywords in recordings and live audio, found with any CTC model as it is."""
