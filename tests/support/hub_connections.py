"""Letting the libraries use a Hub on loopback: in this process, and in others.

The address is read when huggingface_hub is imported, so another process gets it in its environment, and in this one the
constants are replaced. hf_xet, which huggingface_hub brings along, needs more than this Hub speaks and is switched off.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_routes import WRITER
from loopback_hub import LoopbackHub


def environment_for(hub: LoopbackHub, home: Path, token: str | None = WRITER) -> dict[str, str]:
    """The environment of a process that uses this Hub and nothing of the machine's own settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE", "TRANSFORMERS_"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return environment if token is None else environment | {"HF_TOKEN": token}


@contextmanager
def connected(hub: LoopbackHub, home: Path, token: str | None = WRITER) -> Iterator[list[float]]:
    """Let huggingface_hub and Transformers in this process use the Hub; the seconds that they would have waited."""
    import huggingface_hub
    import transformers.utils.hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    naps: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        patch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)
        patch.setattr(_http, "time", SimpleNamespace(sleep=naps.append))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        if token is not None:
            patch.setenv("HF_TOKEN", token)
        try:
            yield naps
        finally:
            huggingface_hub.close_session()
