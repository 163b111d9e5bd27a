"""Every script in `examples/` runs as its first lines say, on clips of noise and tones, from its command line on."""

import csv
import itertools
import json
import re
import runpy
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState
from finetuning_runs import write_spoken_tones
from small_models import small_config
from training_audio import RATE, encoded, write_parquet

from wav2vec2 import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Processor,
)

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
STUDIES = EXAMPLES / "studies"

#: A run of two updates.
SHORT = [
    "model.preset=tiny",
    "model.config={conv_dim: [32, 32], conv_kernel: [80, 32], conv_stride: [20, 16], hidden_size: 48, "
    "num_attention_heads: 4, num_hidden_layers: 1, intermediate_size: 96, num_conv_pos_embeddings: 16, "
    "num_conv_pos_embedding_groups: 4, mask_time_prob: 0.0, mask_feature_prob: 0.0}",
    "data.workers=0",
    "data.min_seconds=0.1",
    "data.max_seconds=4",
    "data.seconds_per_update=4",
    "data.seconds_per_batch=4",
    "run.precision=fp32",
    "run.report=false",
    "run.updates=2",
    "run.evaluate_every=2",
    "run.save_every=2",
]
DIGITS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run a script of `examples/` as `python` does, with its arguments; the global names it leaves."""
    threads = torch.get_num_threads()
    monkeypatch.syspath_prepend(str(STUDIES))

    def run(script: str, *arguments: Any) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        try:
            return runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        except SystemExit as stop:
            assert not stop.code, stop.code
            return {}

    yield run
    torch.set_num_threads(threads)
    AcceleratorState._reset_state()  # the precision that a script chose is not that of what comes after


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def noise(path: Path, seconds: float, seed: int) -> float:
    """A clip that is loud and quiet in turn; its seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    samples = np.random.default_rng(seed).normal(0, 0.1, len(time)) * (1.2 + np.sin(20 * time))
    soundfile.write(path, samples, RATE)
    return len(samples) / RATE


def clips(folder: Path, **columns: list[str]) -> Path:
    """A manifest of clips of noise with such columns."""
    rows = []
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        seconds = noise(folder / f"{number}.wav", 0.6 + 0.1 * (number % 3), number)
        rows.append({"path": f"{number}.wav", "duration": seconds} | dict(zip(columns, values, strict=True)))
    return table(folder / "manifest.tsv", rows)


def test_no_example_is_left_out() -> None:
    """All but the studies' own modules are run here, in `test_example_studies.py`, or in a file of their own."""
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    scripts |= {path.name for path in STUDIES.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    tests = "".join(
        Path(__file__).with_name(f"test_example_{of}.py").read_text("utf-8") for of in ("scripts", "studies", "ray")
    )
    assert scripts == set(re.findall(r'(?:run_(?:script|edited)\(\s*"(?:studies/)?|EXAMPLES / ")(\w+\.py)"', tests))


def test_classification_of_clips(tmp_path: Path, run_script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = clips(tmp_path / "audio", label=["yes", "no"] * 3)
    sources = [f"data.train.0.path={manifest}", f"data.valid.0.path={manifest}", f"run.output={tmp_path / 'run'}"]
    run_script("finetune_classification.py", *sources, *SHORT)
    assert re.search(r"accuracy \d+\.\d\d%", capsys.readouterr().out)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["label2id"] == {"no": 0, "yes": 1}


def test_classification_of_frames(tmp_path: Path, run_script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bare = clips(tmp_path / "audio", speaker=["a", "b", "c"])
    stretches = [{"path": f"{number}.wav", "start": 0.1, "end": 0.4, "label": "speech"} for number in range(3)]
    segments = table(tmp_path / "audio" / "segments.tsv", stretches)
    labelled = tmp_path / "labelled.tsv"
    run_script("finetune_frame_classification.py", "--segments", segments, bare, labelled)
    sources = [f"data.train.0.path={labelled}", f"data.valid.0.path={labelled}", f"run.output={tmp_path / 'run'}"]
    run_script("finetune_frame_classification.py", *sources, *SHORT, "background=silence")
    assert re.search(r"\d+\.\d\d% of the frames", capsys.readouterr().out)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["label2id"] == {"silence": 0, "speech": 1}


def test_x_vectors(tmp_path: Path, run_script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = clips(tmp_path / "audio", speaker=["a", "b"] * 3)
    sources = [f"data.train.0.path={manifest}", f"data.valid.0.path={manifest}", f"run.output={tmp_path / 'run'}"]
    run_script("finetune_xvector.py", *sources, *SHORT)
    assert "over 15 pairs" in capsys.readouterr().out
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def run_edited(script: str, **constants: Any) -> None:
    """Run an example as a reader would who has changed the constants at its top."""
    code = (EXAMPLES / script).read_text(encoding="utf-8")
    for name, value in constants.items():
        code, found = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", code, flags=re.M)
        assert found == 1, name
    exec(compile(code, script, "exec"), {"__name__": "__main__"})


def test_finetuning_with_trainer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Wav2Vec2ForPreTraining(small_config()).save_pretrained(tmp_path / "pretrained")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "pretrained")
    manifest = write_spoken_tones(tmp_path / "audio", ["abc fed", "bead cab", "face", "dab"])
    places = {"MODEL": str(tmp_path / "pretrained"), "OUTPUT": str(tmp_path / "run")}
    places |= {"TRAIN": str(manifest), "VALID": str(manifest)}
    run_edited("finetune_ctc.py", **places, UPDATES=2, LEARNING_RATE=1e-3)
    assert "eval_wer" in capsys.readouterr().out
    assert (tmp_path / "run" / "model.safetensors").is_file() and (tmp_path / "run" / "vocab.json").is_file()


@pytest.mark.parametrize(
    "what",
    [
        [SHORT[1].replace("mask_time_prob: 0.0", "mask_time_prob: 0.5")],
        ["wav2vec_2019", "model.preset=wav2vec_tiny"],
        ["vq_wav2vec", "model.preset=vq_wav2vec_tiny"],
    ],
    ids=["wav2vec 2.0", "wav2vec", "vq-wav2vec"],
)
def test_pretraining(
    what: list[str],
    tmp_path: Path,
    run_script: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ancestors by their own recipes."""
    clips(tmp_path / "recordings", speaker=["a"] * 6)
    monkeypatch.chdir(tmp_path)
    run_script("pretrain.py", *what, *SHORT[2:])
    assert "parameters after 2 updates" in capsys.readouterr().out
    assert (tmp_path / "outputs" / "pretrained" / "model" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the studies need, as small as it can be: the folders and columns of the real data."""
    data = tmp_path_factory.mktemp("data")
    for name, speakers in (("librispeech_train", "19 26 27"), ("librispeech_unlabelled", "1 2")):
        rows = []
        for number, speaker in enumerate(speakers.split() * 4):
            seconds = noise(data / name / f"{number}.flac", 1.5, number)
            rows.append({"path": f"{number}.flac", "duration": seconds, "speaker": speaker, "transcript": "A CAB"})
        table(data / name / "manifest.tsv", rows)
    strings = []
    for number, (speaker, first) in enumerate(itertools.product(["theo", "george", "lucas", "jackson"], range(10))):
        spoken = [first, (first + 3) % 10, (first + 7 + number // 10) % 10]  # each speaker says other strings
        files = [f"{digit}_{speaker}.flac" for digit in spoken]
        for digit, file in zip(spoken, files, strict=True):
            noise(data / "fsdd" / file, 0.3, 100 * number + digit)
        words = " ".join(DIGITS[digit] for digit in spoken)
        recipe = {"clips": ";".join(files), "gaps_ms": "80;90;100;110", "transcript": words}
        strings.append({"id": f"string{number:02d}", "speaker": speaker, **recipe})
    table(data / "fsdd" / "digit_strings.tsv", strings)
    return data


def test_overfitting(corpus: Path, tmp_path: Path, run_script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Two updates learn nothing, and the script says so."""
    few = ["run.updates=2", "run.save_every=2", "run.evaluate_every=2", "data.on_problems=warn", "data.min_seconds=0.1"]
    with pytest.raises(AssertionError, match="not learned: must be under 2%"):
        run_script(
            "studies/overfit_ten.py", "--data", corpus / "librispeech_train", "--work", tmp_path, *few, "data.workers=0"
        )
    assert "said   a cab" in capsys.readouterr().out.lower()


def test_pretraining_study(corpus: Path, tmp_path: Path, run_script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One part from audio to its figures; a second start finds all of it done."""
    monkeypatch.syspath_prepend(str(STUDIES))
    import linear_probe

    monkeypatch.setattr(linear_probe, "DECAYS", (1e-3,))
    script = (STUDIES / "pretraining_study.py").read_text(encoding="utf-8")
    short = script.replace('"short": 600', '"short": 2').replace("workers=1", "workers=0")
    short = short.replace('"stock": 600', '"stock": 2')
    copy = tmp_path / "pretraining_study.py"
    copy.write_text(short, encoding="utf-8")
    assert short.count('": 2') == 2 and "workers=0" in short
    monkeypatch.setattr(sys.modules[__name__], "EXAMPLES", tmp_path)
    for _ in range(2):
        run_script("pretraining_study.py", "--data", corpus, "--work", tmp_path, "--parts", "short-1", "stock-1")
    for part in ("short-1", "stock-1"):
        compared = json.loads((tmp_path / part / "compared.json").read_text(encoding="utf-8"))
        assert 0 <= compared["accuracy"] <= 1
        probed = json.loads((tmp_path / "probes" / f"{part}.json").read_text(encoding="utf-8"))
        assert 0 <= probed["digits"] <= 1 and 0 <= probed["speakers"] <= 1


def test_pretraining_ingredients(
    corpus: Path, tmp_path: Path, run_script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a warm start and without; whoever goes on from the published results has both, and writes the same table."""
    import linear_probe

    monkeypatch.setattr(linear_probe, "DECAYS", (1e-3,))
    rows: list[dict[str, object]] = [
        {"audio": {"bytes": path.read_bytes(), "path": path.name}, "speaker": "ls-19"}
        for path in sorted((corpus / "librispeech_train").glob("*.flac"))
    ]
    rows.append({"audio": {"bytes": b"", "path": "0.flac"}, "speaker": "fsdd-theo"})  # would be an error if it was read
    write_parquet(tmp_path / "data" / "speech" / "train-0.parquet", rows)
    write_parquet(tmp_path / "data" / "speech" / "valid.parquet", rows[:2])
    (tmp_path / "data" / "fsdd").symlink_to(corpus / "fsdd")
    script = (STUDIES / "pretraining_ingredients.py").read_text(encoding="utf-8")
    copy = tmp_path / "pretraining_ingredients.py"
    copy.write_text(
        script.replace("WARM_UPDATES, UPDATES = 150, 600", "WARM_UPDATES, UPDATES = 2, 2"), encoding="utf-8"
    )
    monkeypatch.setattr(sys.modules[__name__], "EXAMPLES", tmp_path)
    places = ["--data", tmp_path / "data", "--results", tmp_path / "out", "--runs", "all-1", "no warm start-1"]
    tables = []
    for work in (["work"], ["elsewhere", "--go-on"]):
        run_script("pretraining_ingredients.py", *places, "--work", tmp_path / work[0], *work[1:])
        tables.append((tmp_path / "out" / "ingredients.md").read_text(encoding="utf-8"))
    assert tables[0] == tables[1]
    assert [row.split(" | ")[0] for row in tables[0].splitlines()[-2:]] == ["| nothing", "| no warm start"]
    runs = json.loads((tmp_path / "out" / "ingredients.json").read_text(encoding="utf-8"))
    assert [(run["variant"], run["update"]) for run in runs] == [("all", [2]), ("no warm start", [2])]
    assert not (tmp_path / "elsewhere" / "all-1" / "model").exists()
    found = json.loads((tmp_path / "work" / "all-1" / "result.json").read_text(encoding="utf-8"))
    assert 0.5 < found["log_mel_error"] < 3 and 0 <= found["digits"] <= 1
    assert (tmp_path / "out" / "ingredients.png").stat().st_size > 10_000


def test_joined_speech(tmp_path: Path, run_script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each recording once in each order, beside others of its speaker as long as that makes ten seconds."""
    (tmp_path / "shards").mkdir()
    seconds = {("a", "ann"): [4.0] * 9, ("a", "bob"): [6.0, 6.0], ("b", "eve"): [1.0]}
    rows = [
        {"audio": {"bytes": encoded(number, length)}, "speaker": speaker, "source": source, "duration": length}
        for (source, speaker), lengths in seconds.items()
        for number, length in enumerate(lengths)
    ]
    write_parquet(tmp_path / "shards" / "train-0.parquet", rows)
    run_script("studies/joined_speech.py", tmp_path / "shards", tmp_path / "joined", "--orders", 2)
    assert "in 6 files, of 12 recordings in 1 shards" in capsys.readouterr().out
    found = {path.stem: soundfile.info(path).duration for path in (tmp_path / "joined").glob("*.wav")}
    pauses = {"a-0-0000": 8, "a-0-0001": 3, "b-0-0000": 1}
    spoken = {"a-0-0000": 32.0, "a-0-0001": 16.0, "b-0-0000": 1.0}
    assert {name: found[name] for name in pauses} == pytest.approx({n: spoken[n] + 0.1 * pauses[n] for n in pauses})
    first, second = (soundfile.read(tmp_path / "joined" / f"a-{order}-0000.wav")[0] for order in (0, 1))
    assert len(first) == len(second) and not np.array_equal(first, second)


def test_keyword_spotting(tmp_path: Path, run_script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic talk, by a model that knows nothing: done once, the page has its figures."""
    pytest.importorskip("espeakng_loader")
    import keyword_recordings

    tokens = ["<pad>", "<unk>", "|", *string.ascii_lowercase]
    tokenizer = Wav2Vec2CTCTokenizer({token: number for number, token in enumerate(tokens)})
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config("large_lv60k", vocab_size=len(tokens), pad_token_id=0))
    model.save_pretrained(tmp_path / "model")
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(tmp_path / "model")
    monkeypatch.setattr(keyword_recordings, "synthetic_model", lambda work, seed: tmp_path / "model")
    places = ["--data", tmp_path, "--work", tmp_path / "work", "--results", tmp_path]
    for _ in range(2):
        run_script("studies/keyword_spotting.py", *places, "--tasks", "synthetic", "--sentences", 20)
        (figures,) = [json.loads((tmp_path / "keyword_spotting.json").read_text("utf-8"))["synthetic"]]
        monkeypatch.setattr("wav2vec2.Transcriber.log_probs", None)  # nothing is computed again
    assert len(figures["spotted"]) == 36 and {row["said"] for row in figures["spotted"]} == {1}
    for row in figures["spotted"]:
        assert row["alarms_there"] <= row["per_hour"] * figures["hours"][row["chosen_on"]]
    assert "| 10 | second half | 0 |" in (tmp_path / "keyword_spotting.md").read_text("utf-8")


def test_label_efficiency(corpus: Path, tmp_path: Path, run_script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three networks, one seed and budget, from audio to their figures; then one of them on anybody's recordings."""
    import label_efficiency_results
    import label_efficiency_runs

    monkeypatch.setattr(label_efficiency_runs, "MINUTES", {"digits": (0.3,)})
    monkeypatch.setattr(label_efficiency_runs, "DECIDED", {})
    monkeypatch.setattr(label_efficiency_runs, "updates", lambda task: 2)
    monkeypatch.setattr(label_efficiency_results, "write_results", lambda results, folder: None)
    kinds = ("pretrained", "scratch", "cnn-rnn")
    work = tmp_path / "work"
    places = ["--data", corpus, "--work", work, "--tasks", "digits", "--kinds"]
    run_script("studies/label_efficiency.py", *places, *kinds)
    results = work / "results"
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*.json")}
    assert set(found) == {f"digits-0.3-{kind}-1" for kind in kinds}
    for one in found.values():
        assert len(one["heard"]) == 3 and one["recordings"] == 5 and one["greedy_wer"] > 0 and one["updates"] == 2
    with (work / "labelled" / "digits-0.3-scratch-1.tsv").open(encoding="utf-8", newline="") as file:
        trained_on = [row["path"] for row in csv.DictReader(file, delimiter="\t")]
    strings = {row["path"]: row["speaker"] for row in read_table(work / "digit_strings" / "manifest.tsv")}
    assert {strings[Path(path).name] for path in trained_on} == {"george", "lucas", "jackson"}
    assert [one["parameters"] for one in found.values()].count(found["digits-0.3-scratch-1"]["parameters"]) == 2
    given = ("digits", 1, tmp_path / "train.tsv", tmp_path / "run")
    pretrained, scratch = (label_efficiency_runs.finetuning_run(kind, *given) for kind in kinds[:2])
    assert (pretrained.tuning.freeze_updates, scratch.tuning.freeze_updates) == (None, 0)
    assert scratch.model.checkpoint is None and scratch.model.config["feature_grad_mult"] == 1
    assert scratch.data == pretrained.data and scratch.run.updates == pretrained.run.updates
    manifest = clips(tmp_path / "anybody", transcript=["one two", "three"])
    run_script("studies/label_efficiency.py", *places, "cnn-rnn", "--test", manifest)
    tested = json.loads((results / "digits-0.3-cnn-rnn-1.manifest.json").read_text(encoding="utf-8"))
    assert tested["recordings"] == 2


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_label_efficiency_tables(tmp_path: Path, run_script: Any) -> None:
    """Means, ranges and the share of errors saved, against numbers worked out by hand."""
    import label_efficiency_results

    rates = label_efficiency_results.RATES
    for seed, wer in ((1, 30.0), (2, 50.0)):
        for kind, factor in (("pretrained", 1.0), ("scratch", 2.0)):
            content = json.dumps(dict.fromkeys(rates, factor * wer))
            (tmp_path / f"digits-2-{kind}-{seed}.json").write_text(content, encoding="utf-8")
    for speaker, wer in (("jackson", 10.0), ("nicolas", 20.0)):
        content = json.dumps(dict.fromkeys(rates, wer))
        (tmp_path / f"digits-{speaker}-2-pretrained-1.json").write_text(content, encoding="utf-8")
    label_efficiency_results.write_results(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "label_efficiency.md").read_text(encoding="utf-8")
    assert "| 2 | 40.0 (30.0 to 50.0) | 80.0 (60.0 to 100.0) | 50 % | not run |  | not run | 2 |" in text
    assert "| 2 | 15.0 (10.0 to 20.0) | not run |  | not run |  | not run | 2 |" in text
    assert (tmp_path / "out" / "label_efficiency.png").stat().st_size > 10_000
    label_efficiency_results.take_up(tmp_path / "out", tmp_path / "elsewhere")
    label_efficiency_results.write_results(tmp_path / "elsewhere", tmp_path / "again")
    assert (tmp_path / "again" / "label_efficiency.md").read_text(encoding="utf-8") == text
