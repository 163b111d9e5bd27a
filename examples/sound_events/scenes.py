"""Scenes: a few seconds of speech, sounds and silence after each other, some on top of others, with exact labels.

What is labelled is what is in the foreground: of speech over music 6 to 20 dB below it the speech, in its pauses the
music. Where nothing is heard but a quiet room, it is `silence`; where there is noise, it is the background `none`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from sound_sources import Sources, spoken_stretches
from synthetic_sounds import RATE, SOUNDS, Chance, Samples, coloured

from wav2vec2.files.tab_separated import table

#: The labels in the order of a model: the background first.
LABELS = ("none", "applause", "beep", "music", "ringing", "silence", "speech")

#: Seconds that a sound lasts, at least and at most.
_SECONDS = {"music": (2, 6), "applause": (1.5, 5), "ringing": (0.8, 2.5), "beep": (0.15, 1.5), "none": (0.5, 3)}

#: What comes next in a scene, and how often.
_NEXT = {"speech": 0.34, "music": 0.14, "applause": 0.14, "ringing": 0.11, "beep": 0.11, "none": 0.06, "silence": 0.1}

Stretch = tuple[float, float, str]


@dataclass
class Scene:
    """Sound (S,) and what it is, in order and without gaps in what is named."""

    samples: Samples
    stretches: list[Stretch] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The stretches as a manifest for `task=frames` has them."""
        return "; ".join(f"{begin:.3f}-{end:.3f} {label}" for begin, end, label in self.stretches)


def draw_scene(seconds: float, sources: Sources, chance: Chance, synthetic: float) -> Scene:
    """A scene, of whose sounds the share `synthetic` are made, the others cut from recordings."""
    size = round(seconds * RATE)
    quiet = chance.random() < 0.7
    floor = "silence" if quiet else "none"
    samples = 10 ** (-chance.uniform(*((48, 75) if quiet else (15, 32))) / 20) * coloured(
        size, chance.uniform(0, 2), chance
    )
    labels = np.full(size, LABELS.index(floor))
    bed = str(chance.choice(["music", "applause"])) if chance.random() < 0.2 else None
    if bed is not None:
        below = chance.uniform(8, 20)
        samples += 10 ** (-below / 20) * _sound(bed, seconds + 0.01, sources, chance, synthetic)[:size]
        labels[:] = LABELS.index(bed)
    place = 0
    while place < size:
        label = str(chance.choice(list(_NEXT), p=list(_NEXT.values())))
        if bed is not None and label not in ("speech", "silence"):
            label = "speech"  # over a sound that goes on somebody speaks, or nobody
        gain = 10 ** (chance.uniform(-9, 3) / 20) if bed is None else 1.0
        if label == "silence":
            place += round(chance.uniform(1.0, 3.5) * RATE)
            continue
        if label == "speech":
            sound = sources.speech[chance.integers(len(sources.speech))]
            inside = spoken_stretches(sound)
        else:
            sound = _sound(label, chance.uniform(*_SECONDS[label]), sources, chance, synthetic)
            inside = [(0.0, len(sound) / RATE)]
        sound = sound[: size - place]
        samples[place : place + len(sound)] += gain * sound
        for begin, end in inside:
            labels[place + round(begin * RATE) : min(place + round(end * RATE), size)] = LABELS.index(label)
        place += len(sound) + round(chance.uniform(0.0, 0.6) * RATE)
    return Scene(_quieter(samples, chance), _stretches(labels))


def _sound(label: str, seconds: float, sources: Sources, chance: Chance, synthetic: float) -> Samples:
    """A sound of a label, with short flanks; of a recording that is shorter, all of it, of a bed as often as needed."""
    if chance.random() < synthetic:
        return _flanked(SOUNDS[label](seconds, chance))
    whole = sources.sounds[label][chance.integers(len(sources.sounds[label]))]
    size = round(seconds * RATE)
    if label in ("music", "applause") and len(whole) < size:
        whole = np.tile(whole, -(-size // len(whole)))
    begin = int(chance.integers(max(len(whole) - size, 0) + 1))
    cut = whole[begin : begin + size]
    return _flanked(cut / max(float(np.sqrt(np.mean(np.square(cut)))), 0.1))


def _flanked(sound: Samples) -> Samples:
    ends = np.minimum(np.arange(len(sound)), np.arange(len(sound))[::-1]) / (0.005 * RATE)
    return (sound * np.clip(ends, 0, 1)).astype(np.float32)


def _quieter(samples: Samples, chance: Chance) -> Samples:
    """As a recording has it: at any loudness, never above full scale."""
    peak = float(np.abs(samples).max())
    return (samples * (chance.uniform(0.1, 0.9) / max(peak, 1e-9))).astype(np.float32)


def _stretches(labels: np.ndarray) -> list[Stretch]:
    """Runs of one label, but for those of the background."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    runs = zip(edges, edges[1:], strict=False)
    return [
        (begin / RATE, end / RATE, LABELS[labels[begin]]) for begin, end in runs if labels[begin] and end > begin + 16
    ]


def write_scenes(folder: Path, count: int, seconds: float, sources: Sources, seed: int, synthetic: float) -> Path:
    """So many scenes as files, and their manifest; nothing is done where the manifest is there."""
    manifest = folder / "scenes.tsv"
    if manifest.is_file():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    rows = [["path", "duration", "label"]]
    for number in range(count):
        scene = draw_scene(seconds, sources, chance, synthetic)
        soundfile.write(folder / f"{number:04d}.flac", scene.samples, RATE, subtype="PCM_16")
        rows.append([f"{number:04d}.flac", f"{len(scene.samples) / RATE:.3f}", scene.label])
    manifest.write_text(table(rows), encoding="utf-8")
    return manifest
