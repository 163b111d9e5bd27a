"""Audio files, feature extractor, tokenizers and the processor: from files and texts to a model's inputs, and back."""
