"""What a service allows, and where it listens."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from wav2vec2.serving.spoken_languages import is_same_language, language_of


@dataclass(frozen=True)
class ServiceSettings:
    """The settings of `wav2vec2 serve`, which do not concern the model."""

    #: What clients call the model, first the name that answers give.
    names: tuple[str, ...]
    #: The language that the model was loaded with; of a checkpoint with several, by default the one it was saved for.
    language: str | None = None
    #: What clients are told that the model hears, such as en; by default the same.
    spoken: str | None = None
    #: The address that is listened at. Anything but the machine's own lets others in.
    host: str = "127.0.0.1"
    port: int = 8000
    #: The port for the Wyoming protocol, at the same address; None for none.
    wyoming_port: int | None = None
    #: What a client must show one of; empty if anybody is let in.
    api_keys: tuple[str, ...] = ()
    #: Web pages from elsewhere that may use the service in a browser, such as https://captions.example.org.
    origins: tuple[str, ...] = ()
    #: Recordings that wait for the model at most, the one it is at left out.
    queue: int = 32
    #: Connections at a time at most that live sound comes on: websockets, and as many of Wyoming's.
    connections: int = 256
    #: Seconds after which the text of live sound is final.
    latency: float = 1.92
    #: Bytes of a recording at most.
    upload_bytes: int = 100 * 2**20
    #: Seconds within which an answer must be there, from the moment the recording has arrived.
    answer_seconds: float = 600.0
    #: Seconds within which a recording must have arrived.
    upload_seconds: float = 120.0
    #: Seconds after which a connection on which nothing comes is closed.
    idle_seconds: float = 60.0
    #: Seconds that what is in flight is given when the service is told to stop.
    stopping_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not all(name.strip() for name in self.names):
            raise ValueError("--name: a name of the model is empty")
        if self.spoken is not None and language_of(self.spoken) is None:
            raise ValueError(f"--spoken {self.spoken}: no language of ISO 639, such as en, eng or en-GB")
        for origin in self.origins:
            if not _is_origin(origin):
                raise ValueError(f"--allow-origin {origin}: must be as browsers say it, https://captions.example.org")
        if self.api_keys and self.wyoming_port is not None and not is_loopback(self.host):
            raise ValueError(
                f"--wyoming with --api-key-file at {self.host}: the Wyoming protocol knows no keys, so that port would "
                "be open to everybody; leave --host as it is, or run it as a service of its own"
            )

    @property
    def languages(self) -> tuple[str, ...]:
        """What the model hears by all its names, first the one that clients are told; empty if it is not known."""
        return tuple(dict.fromkeys(name for name in (self.spoken, self.language) if name))

    def hears(self, language: str) -> bool:
        """Whether this language is the model's, by any of its names."""
        return any(is_same_language(language, known) for known in self.languages)


def _is_origin(text: str) -> bool:
    """Whether a browser can say that a page is from there: scheme and host in small letters, and nothing behind."""
    parts = urlsplit(text)
    return (
        parts.scheme in ("http", "https") and parts.netloc != "" and text == f"{parts.scheme}://{parts.netloc.lower()}"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address.

    >>> is_loopback("localhost"), is_loopback("127.8.8.8"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    return host in ("localhost", "::1") or host.startswith("127.")
