"""Are planted errors found? espeak-ng says sentences with a phone replaced, left out or put in, in voices that a model
of phones never heard; `assess` says what is wrong.

    python examples/studies/planted_errors.py DATA WORK

DATA is a folder with `speech/train-*.parquet`, of which the texts of one reader are taken, none of the audio; WORK is
where audio, the model and what was found go. What is done already is not done again.

The model is trained by the recipe `ctc_phonemes` from `small` on 54 voices, a third of whose sentences are as espeak
says them; in the others phones were exchanged at random, or the model would guess from the words what was not said.
Sentences of two development voices, without errors, choose the checkpoint and calibrate the scores, as `wav2vec2
finetune` does it by itself; four other voices are the test. Further runs (`RUNS`) are tried where they are named:

    python examples/studies/planted_errors.py DATA WORK more more-crnn
"""

import json
import random
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from perturbed_speech import table, write_table
from planted_phones import Planted, Speaker, in_manifest, nonsense, plain, planted, sentences, spoken, written
from planted_results import LAXEST, figures, write_results

from wav2vec2.inference.transcriber import Transcriber
from wav2vec2.pronunciation.assessing import Asked, assess, assess_each
from wav2vec2.pronunciation.assessment import AssessedPhone
from wav2vec2.pronunciation.calibrating_models import calibrate_model
from wav2vec2.pronunciation.calibration import CALIBRATION_FILE, read_calibration
from wav2vec2.quickstart.spoken_corpus import DEVELOPMENT_VOICES, TEST_VOICES, TRAINING_VOICES, Voice
from wav2vec2.training.finetuning import finetune
from wav2vec2.training.settings.recipes import read_run
from wav2vec2.training.settings.run_config import FinetuneRun

RESULTS = Path(__file__).parent / "results" / "planted_errors.json"
READER, SEED = "kathleen", 1
#: Sentences that are kept apart for each test voice, and how many of them it says in each kind; those of a development
#: voice; and how many clips of a training voice there are.
TEST, SAID, DEVELOPMENT, TRAINING = 40, 15, 60, 12
KINDS = ("untouched", "substitution", "omission", "insertion")
#: The share of phones that are exchanged in two of three training clips.
NONSENSE = 0.4

#: What a recipe is changed in: so many voices need no other speeds.
SETTINGS = ["text.phonemes=en-us", "text.phonemes_given=true", "data.speeds=[]", "run.report=false"]
_WHOLE = ["tuning.freeze_updates=0", "tuning.keep_features=null", "optimizer.learning_rate=5e-4"]
#: What can be tried, by name: a recipe, how many times TRAINING clips, and settings. More updates, labels on frames of
#: 20 ms and not 40, all weights trained, more clips, and the classical network; that also larger, with frames of 20 ms
#: and still more clips.
RUNS: dict[str, tuple[str, int, list[str]]] = {
    "recipe": ("ctc_phonemes", 1, []),
    "longer": ("ctc_phonemes", 1, ["run.updates=2400"]),
    "short-frames": ("ctc_phonemes", 1, ["model.config.ctc_head_stride=1"]),
    "whole": ("ctc_phonemes", 1, _WHOLE),
    "more": ("ctc_phonemes", 4, ["run.updates=3200"]),
    "more-whole": ("ctc_phonemes", 4, [*_WHOLE, "run.updates=3200"]),
    "more-crnn": ("ctc_crnn", 4, ["run.updates=3200"]),
    "fine-crnn": ("ctc_phonemes_crnn", 16, []),
}

Row = dict[str, str]


def american(voice: Voice) -> Voice:
    """The voice with the phones of American English, whatever its accent."""
    return replace(voice, accent="en-US")


def corpus(data: Path, work: Path) -> None:
    """The audio of tests with its manifests, once, and what is left for training."""
    texts = list(sentences(data / "speech", READER, 4, 8))
    test = TEST * len(TEST_VOICES)
    held = test + DEVELOPMENT * len(DEVELOPMENT_VOICES)
    work.mkdir(parents=True, exist_ok=True)
    (work / "texts.txt").write_text("\n".join(texts[held:]) + "\n", encoding="utf-8")
    for name, voices, parts, kinds in (
        ("development", DEVELOPMENT_VOICES, texts[test:held], KINDS[:1]),
        ("test", TEST_VOICES, texts[:test], KINDS),
    ):
        if (work / f"{name}.tsv").is_file():
            continue
        speaker = Speaker(american(TEST_VOICES[0]).espeak_name)
        each = len(parts) // len(voices)
        rows: list[Row] = []
        for number, voice in enumerate(map(american, voices)):
            own = parts[number * each : (number + 1) * each][: SAID if len(kinds) > 1 else each]
            rows += _planted_rows(speaker, voice, own, kinds, work / name)
        write_table(work / f"{name}.tsv", rows)


def training(work: Path, times: int) -> Path:
    """The manifest of so many times TRAINING clips of each voice; made once."""
    manifest = work / f"train-{times}.tsv"
    if not manifest.is_file():
        speaker = Speaker(american(TEST_VOICES[0]).espeak_name)
        texts = (work / "texts.txt").read_text(encoding="utf-8").splitlines()
        write_table(manifest, list(_training(speaker, texts, work / manifest.stem, times * TRAINING)))
    return manifest


def _training(speaker: Speaker, texts: list[str], folder: Path, clips: int) -> Iterator[Row]:
    for number, voice in enumerate(map(american, TRAINING_VOICES)):
        chance = random.Random(1000 * SEED + number)
        said = []
        for clip in range(clips):
            letters = speaker.letters(chance.choice(texts))
            said.append(letters if clip % 3 == 0 else nonsense(letters, NONSENSE, chance))
        files = spoken(voice, [f"[[{written(one)}]]" for one in said], folder, number)
        for (path, seconds), letters in zip(files, said, strict=True):
            phones = " ".join(plain(speaker.ipa(letters)))
            yield {"path": str(path), "duration": f"{seconds:.4f}", "speaker": voice.name, "transcript": phones}


def _planted_rows(speaker: Speaker, voice: Voice, texts: list[str], kinds: tuple[str, ...], folder: Path) -> list[Row]:
    """Each sentence in each kind."""
    chance = random.Random(zlib.crc32(f"{folder.name} {voice.name}".encode()))
    found: list[Planted] = []
    for text in texts:
        ways = [planted(speaker, text, kind, chance) for kind in kinds]
        found += [way for way in ways if way is not None]
    files = spoken(voice, [one.text for one in found], folder, zlib.crc32(folder.name.encode()))
    return [
        {
            "path": str(path),
            "duration": f"{seconds:.4f}",
            "speaker": voice.name,
            "transcript": " ".join(plain(one.said)),
            "phones": in_manifest(one.asked),
            "said": in_manifest(one.said),
            "kind": one.kind,
            "place": str(one.place),
            "instead": one.instead,
        }
        for one, (path, seconds) in zip(found, files, strict=True)
    ]


def trained(work: Path, name: str) -> Path:
    """The folder of the model of a run, calibrated as `wav2vec2 finetune` does it; a run that was stopped goes on."""
    output, (recipe, times, changes) = work / name, RUNS[name]
    given = {
        "data.train.0.path": training(work, times),
        "data.valid.0.path": work / "development.tsv",
        "run.output": output,
        "run.seed": SEED,
    }
    settings = [f"{key}={value}" for key, value in given.items()] + SETTINGS + changes
    if not (output / "model").is_dir():
        finetune(read_run(FinetuneRun, recipe, settings))
    if not (output / "model" / CALIBRATION_FILE).is_file():
        calibrate_model(output / "model", {work / "development.tsv": "transcript"}, has_phones=True)
    return output / "model"


def assessed(work: Path, model: Path) -> Path:
    """What `assess` finds in every test recording, not calibrated, a line each: all that is as likely as not."""
    target = model.parent / "assessed.jsonl"
    if target.is_file():
        return target
    transcriber = Transcriber.from_pretrained(str(model))
    rows = table(work / "test.tsv")
    lines = []
    asked = [Asked(Path(row["path"]), phones=row["phones"]) for row in rows]
    for row, one in zip(rows, assess_each(transcriber, asked, threshold=LAXEST), strict=True):
        if one.assessment is None:
            raise SystemExit(f"{row['path']}: {one.error}")
        words = [[_kept(phone) for phone in word.phones] for word in one.assessment.words]
        kept = {key: row[key] for key in ("speaker", "kind", "place", "instead", "duration", "phones")}
        lines.append(json.dumps(kept | {"words": words}, ensure_ascii=False))
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def _kept(phone: AssessedPhone) -> dict[str, object]:
    """What is asked for ("" if nothing is), its score, what was told instead, and the likeliest other."""
    others = [name for name, _ in phone.candidates if name != phone.text]
    return {"text": phone.text, "score": phone.score, "fault": phone.fault, "said": phone.said, "other": others[:1]}


def seconds_of(work: Path, model: Path) -> dict[str, list[float]]:
    """The seconds that `assess` takes for each of ten utterances of 2.5 to 3.5 s on two threads, files read and all, by
    the clock and of the processor: the fewest of five, since other programs may run beside."""
    torch.set_num_threads(2)
    transcriber = Transcriber.from_pretrained(str(model))
    rows = [row for row in table(work / "test.tsv") if 2.5 <= float(row["duration"]) <= 3.5][:10]
    found: dict[str, list[float]] = {"seconds": [], "processor seconds": []}
    for row in rows:
        times = []
        for _ in range(5):
            begun = time.perf_counter(), time.process_time()
            assess(transcriber, row["path"], phones=row["phones"])
            times.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
        for name, taken in zip(found, zip(*times, strict=True), strict=True):
            found[name].append(round(min(taken), 4))
    return found


def main() -> None:
    """All of it, for each run that is named, or the first."""
    data, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    corpus(data, work)
    for name in sys.argv[3:] or list(RUNS)[:1]:
        model = trained(work, name)
        found = figures(assessed(work, model), read_calibration(model / CALIBRATION_FILE))
        write_results({name: found}, RESULTS)
        write_results({name: found | seconds_of(work, model)}, RESULTS)


if __name__ == "__main__":
    main()
