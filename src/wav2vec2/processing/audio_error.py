"""The one error for audio that cannot be used."""


class AudioError(ValueError):
    """Audio that cannot be used: which, and why. `source` names the file, `reason` says what is wrong with it."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)  # both, so that the error survives the way back from a worker process
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"
