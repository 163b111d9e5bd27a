"""N-gram language models: read, written and estimated from text."""
