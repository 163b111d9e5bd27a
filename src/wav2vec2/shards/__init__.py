"""Shards: an index of clips in files anywhere, random access to them, and a cache on this machine."""
