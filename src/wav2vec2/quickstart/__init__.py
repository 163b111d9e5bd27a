"""The whole path in minutes: from a small pretrained model and audio to one that transcribes, on a spoken corpus made
here or on one's own."""
