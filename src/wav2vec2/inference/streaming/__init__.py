"""Audio in as it is heard, words out as they become final. Read `streaming_recogniser.py` first."""
