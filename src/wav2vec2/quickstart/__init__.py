"""The whole path in minutes: from audio to a model that transcribes, on a spoken corpus made here or on one's own."""
