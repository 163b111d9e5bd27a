"""Which sounds are found when nobody speaks? Scenes of made and of recorded sounds, three networks, unheard recordings.

    sh fetch_sounds.sh /tmp/sounds
    python examples/sound_events/sound_event_study.py --sounds /tmp/sounds --data ../shared/data

Trained on 30 minutes of scenes with exact labels, of whose sounds three in five are made (`synthetic_sounds.py`) and
the others are cut from recordings; tested on 4 minutes of made sounds and 8 of recordings and speakers that nothing was
trained on. The kinds:

    pretrained   the package's small model by the recipe `events_small_minutes`
    log-mel-cnn  convolutions over log-mel energies (`log_mel_frames.py`)
    level        what is 40 dB below the loudest is silence, all else speech, the most frequent label

The first two also without the path, frame by frame (`-raw`). Every part is one file in the work folder and is done
once; the last step writes the results beside the other studies'.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from event_figures import Figures, Stretch  # noqa: E402
from log_mel_frames import train  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scenes import LABELS, write_scenes  # noqa: E402
from sound_event_results import write_results  # noqa: E402
from sound_sources import Sources, recorded_sounds, speech_of, spoken_stretches  # noqa: E402

from wav2vec2 import load_audio  # noqa: E402
from wav2vec2.evaluation.provenance import hardware  # noqa: E402
from wav2vec2.inference.audio_inputs import AudioInput  # noqa: E402
from wav2vec2.inference.event_path import EventPath  # noqa: E402
from wav2vec2.inference.listener import Heard  # noqa: E402
from wav2vec2.inference.sound_events import EventRules, SoundEventDetector  # noqa: E402
from wav2vec2.processing.manifests import read_manifest  # noqa: E402
from wav2vec2.training.classification import classify  # noqa: E402
from wav2vec2.training.settings.classification_run import ClassificationRun  # noqa: E402
from wav2vec2.training.settings.recipes import read_run  # noqa: E402
from wav2vec2.training.tasks.classification_task import segments_of  # noqa: E402

#: Scenes, their share of made sounds, the part whose recordings they have, and their seed.
SETS = {
    "train": (150, 0.6, "train", 1),
    "valid": (20, 0.6, "train", 2),
    "test-made": (20, 1.0, "test", 3),
    "test-recorded": (40, 0.0, "test", 4),
}
SECONDS = 12.0

#: By the path, and frame by frame; every stretch counts, however short.
RULES = {
    "": EventRules(shortest={}, threshold=0.0),
    "-raw": EventRules(shortest={}, threshold=0.0, switching_cost=0.0, minimum=0.0),
}

Found = Callable[[Path], list[Stretch]]


class Study:
    """Where things are, and the parts."""

    def __init__(self, sounds: Path, data: Path | None, work: Path) -> None:
        self.sounds, self.data, self.work = sounds, data, work

    def scenes(self) -> None:
        """The scenes of every set that are not there."""
        for part in ("train", "test"):
            missing = [name for name, (_, _, of, _) in SETS.items() if of == part]
            missing = [name for name in missing if not (self.work / name / "scenes.tsv").is_file()]
            if missing:
                speech = speech_of(part, self.data, np.random.default_rng(0))
                sources = Sources(recorded_sounds(self.sounds, part), speech)
                for name in missing:
                    count, made, _, seed = SETS[name]
                    write_scenes(self.work / name, count, SECONDS, sources, seed, made)

    def part(self, kind: str, seed: int) -> None:
        """Train, and measure on both tests; done once."""
        target = self.work / "results" / f"{kind}-{seed}.json"
        if target.is_file():
            return
        begun = time.monotonic()
        found, parameters = {"pretrained": self._pretrained, "log-mel-cnn": self._log_mel, "level": self._level}[kind](
            seed
        )
        seconds = round(time.monotonic() - begun)
        results: dict[str, Any] = {
            "seconds": seconds,
            "parameters": parameters,
            "hardware": hardware(torch.device("cpu")),
        }
        for name in ("test-made", "test-recorded"):
            results[name] = {way: self._measured(name, one) for way, one in found.items()}
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    def _measured(self, name: str, found: Found) -> dict[str, Any]:
        figures = Figures(LABELS)
        for path, there in self._rows(name):
            figures.add(there, found(path), SECONDS)
        return figures.summary()

    def _rows(self, name: str) -> list[tuple[Path, list[Stretch]]]:
        rows = read_manifest(self.work / name / "scenes.tsv")
        return [(row.path, segments_of(row.others["label"])) for row in rows]

    def _pretrained(self, seed: int) -> tuple[dict[str, Found], int]:
        output = self.work / "runs" / f"pretrained-{seed}"
        if not (output / "model" / "model.safetensors").is_file():
            data = [f"data.{part}.0.path={self.work / part / 'scenes.tsv'}" for part in ("train", "valid")]
            settings = [*data, f"run.output={output}", f"run.seed={seed}"]
            classify(read_run(ClassificationRun, "events_small_minutes", settings))
        detector = SoundEventDetector.from_pretrained(output / "model", "cpu")

        def frames(path: Path) -> NDArray[np.float64]:
            pieces = detector.listener.hear([Heard(AudioInput(str(path), path))])
            return torch.cat([piece.log_probs for some in pieces for _, piece in some.of]).double().numpy()

        return _both_ways(frames), sum(one.numel() for one in detector.listener.model.parameters())

    def _log_mel(self, seed: int) -> tuple[dict[str, Found], int]:
        scenes = [(_normalised(path), there) for path, there in self._rows("train")]
        model = train(scenes, LABELS, seed, updates=300)

        def frames(path: Path) -> NDArray[np.float64]:
            with torch.inference_mode():
                log_probs: NDArray[np.float64] = model(_normalised(path)[None])[0].double().log_softmax(-1).numpy()
            return log_probs

        return _both_ways(frames), sum(one.numel() for one in model.parameters())

    def _level(self, seed: int) -> tuple[dict[str, Found], int]:
        def found(path: Path) -> list[Stretch]:
            heard = [(start, end, "speech") for start, end in spoken_stretches(load_audio(path), pause=0.2)]
            edges = [0.0, *(time for start, end, _ in heard for time in (start, end)), SECONDS]
            quiet = zip(edges[::2], edges[1::2], strict=True)
            return sorted([*heard, *((start, end, "silence") for start, end in quiet if end - start > 0.1)])

        return {"": found}, 0


def _both_ways(frames: Callable[[Path], NDArray[np.float64]]) -> dict[str, Found]:
    """What the path makes of a model's frames (T, N), and what they are one by one; each recording is computed once."""
    kept = cache(frames)

    def found(path: Path, rules: EventRules) -> list[Stretch]:
        log_probs, best = (
            kept(path),
            EventPath([max(1, round(rules.minimum / 0.02))] * len(LABELS), rules.switching_cost),
        )
        stretches = [*best.add(log_probs), *best.finish()]
        times = [(one.start * 0.02 + 0.0025, one.end * 0.02 + 0.0025, LABELS[one.label]) for one in stretches]
        return [one for one in times if one[2] != LABELS[0]]

    return {way: partial(found, rules=rules) for way, rules in RULES.items()}


def _normalised(path: Path) -> torch.Tensor:
    samples = torch.from_numpy(load_audio(path))
    return (samples - samples.mean()) / (samples.std() + 1e-6)


def main() -> None:
    """All parts, and the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sounds", type=Path, required=True, help="folder of `fetch_sounds.sh`")
    parser.add_argument("--data", type=Path, help="the shared data; without it speech is espeak's")
    parser.add_argument("--work", type=Path, default=Path("outputs/sound_events"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=["level", "log-mel-cnn", "pretrained"])
    given = parser.parse_args()
    study = Study(given.sounds, given.data, given.work)
    study.scenes()
    for seed in range(1, given.seeds + 1):
        for kind in given.kinds if seed == 1 else [kind for kind in given.kinds if kind != "level"]:
            study.part(kind, seed)
            print(f"{kind}, seed {seed}: done", flush=True)
        write_results(given.work / "results", Path(__file__).parents[1] / "studies" / "results")


if __name__ == "__main__":
    main()
