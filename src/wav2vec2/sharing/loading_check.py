"""Would others be able to use it? The files that are to be published, loaded fresh by two processes of their own.

One uses this package, one Transformers alone ("stock"); both are offline, with an empty cache and no token. Their
inputs, logits and texts have to be equal. Only what will be published is there for them: a model that needs another
file fails here and not at its users'.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wav2vec2.sharing.loading_probe import RATE, architecture_of

#: Seconds of a clip that are used, and that a process may take.
_CLIP_SECONDS, _PATIENCE = 30.0, 1800.0
#: Two correct programs differ by rounding alone, measured relative to the largest output.
TOLERANCE = 1e-4


class LoadingError(ValueError):
    """The files cannot be used by others as they are: by whom, and what happened there."""


@dataclass(frozen=True)
class Loaded:
    """What both processes agreed on."""

    #: The class of the model.
    architecture: str
    #: What the `Transcriber` makes of the clip with the decoder that is published; None for models without text.
    text: str | None
    #: The largest difference between both packages' outputs, relative to the largest output.
    difference: float
    #: What could not be tried; empty if nothing.
    note: str


class ProbeAnswer(NamedTuple):
    """What one process made of the clip; see `loading_probe`."""

    #: What went into the model (1, S).
    inputs: NDArray[np.float32]
    #: What came out of it (1, T, V or C).
    outputs: NDArray[np.float32]
    #: The text of greedy search, by the tokenizer; None for models without text.
    text: str | None
    #: The text that the `Transcriber` finds, of this package alone.
    transcript: str | None
    #: What could not be tried; empty if nothing.
    note: str


def check_loading(folder: Path, files: Iterable[str], clip: Path | None = None) -> Loaded:
    """Load the files in fresh processes and compare; `clip` is an audio file, by default a synthetic sound is used."""
    from wav2vec2.processing.audio_files import load_audio

    samples = synthetic_clip() if clip is None else load_audio(clip, RATE)[: round(_CLIP_SECONDS * RATE)]
    with tempfile.TemporaryDirectory(prefix="wav2vec2-push-") as place:
        work = Path(place)
        staged = _stage(folder, files, work / "model")
        try:
            architecture = architecture_of(staged)
        except (OSError, ValueError) as error:
            raise LoadingError(f"no complete checkpoint: {_told(error, staged, folder)}") from error
        np.save(work / "clip.npy", samples)
        own = _probe("own", staged, work, folder)
        stock = _probe("stock", staged, work, folder)
    return _compare(architecture, own, stock)


def synthetic_clip(seconds: float = 3.0) -> NDArray[np.float32]:
    """A sound (S,) with the rough shape of speech: a gliding pitch, two formants that move, pauses, some noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    first, second = 500 + 250 * np.sin(2 * np.pi * 1.9 * time), 1500 + 600 * np.sin(2 * np.pi * 1.3 * time)
    sound = np.zeros_like(time)
    for harmonic in range(1, 25):
        pitch = harmonic * (120 + 30 * np.sin(2 * np.pi * 0.7 * time))
        loudness = np.exp(-(((pitch - first) / 150) ** 2)) + 0.5 * np.exp(-(((pitch - second) / 200) ** 2))
        sound += loudness * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.1 * time), 0, None)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.1 * syllables * sound + 0.003 * noise).astype(np.float32)


def _stage(folder: Path, files: Iterable[str], staged: Path) -> Path:
    """The published files alone, as links where the system has them, else as copies."""
    staged.mkdir()
    for name in files:
        target = staged / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to((folder / name).resolve())
        except OSError:
            shutil.copyfile(folder / name, target)
    return staged


def _probe(kind: str, staged: Path, work: Path, folder: Path) -> ProbeAnswer:
    """The answer of one process; what it died of is a `LoadingError`."""
    who = {"own": "this package", "stock": "stock Transformers"}[kind]
    answer = work / f"{kind}.npz"
    script = Path(__file__).with_name("loading_probe.py")
    command = [sys.executable, "-P", str(script), kind, str(staged), str(work / "clip.npy"), str(answer)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env=_environment(work),
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadingError(f"{who} was not done with loading and one clip after {_PATIENCE:.0f} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise LoadingError(f"{who} cannot use it: {_told(_last_error(lines), staged, folder)}")
    with np.load(answer) as content:
        facts = json.loads(str(content["facts"]))
        return ProbeAnswer(content["inputs"], content["outputs"], facts["text"], facts["transcript"], facts["note"])


def _environment(work: Path) -> dict[str, str]:
    """No token, no cache, no network; this very copy of the package."""
    package = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    path = os.pathsep.join([package, *filter(None, [kept.get("PYTHONPATH")])])
    offline = {"HF_HOME": str(work / "home"), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return kept | offline | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


def _last_error(lines: list[str]) -> str:
    """The last exception of a traceback with all of its lines, at most ten."""
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback ")]
    after = lines[starts[-1] + 1 :] if starts else lines
    message = [line for line in after if not line.startswith("  ")] or after
    first = next((number for number, line in enumerate(after) if line in message[:1]), 0)
    return "\n".join(after[first:][:10]) or "it ended without a word"


def _told(error: object, staged: Path, folder: Path) -> str:
    return str(error).replace(str(staged), str(folder))


def _compare(architecture: str, own: ProbeAnswer, stock: ProbeAnswer) -> Loaded:
    outputs, expected = own.outputs, stock.outputs
    if own.inputs.shape != stock.inputs.shape or not np.allclose(own.inputs, stock.inputs, atol=1e-5):
        raise LoadingError("this package and stock Transformers prepare the audio differently; see preprocessor_config")
    if outputs.shape != expected.shape:
        raise LoadingError(f"outputs of shape {outputs.shape} here, {expected.shape} from stock Transformers")
    if not (np.isfinite(outputs).all() and np.isfinite(expected).all()):
        raise LoadingError("the model's output is not finite; its weights are broken")
    difference = float(np.abs(outputs - expected).max() / max(np.abs(expected).max(), 1e-12))
    if difference > TOLERANCE:
        raise LoadingError(
            f"outputs differ from stock Transformers' by {difference:.2g} of the largest, more than {TOLERANCE:g}: "
            "is a field of config.json known here alone?"
        )
    if stock.text is not None and own.text != stock.text:
        raise LoadingError(f"the clip is {own.text!r} here and {stock.text!r} in stock Transformers")
    return Loaded(architecture, own.transcript, difference, stock.note)
