"""`wav2vec2 evaluate` and `Evaluation`: figures that can be counted again, files that tell nothing of this machine."""

import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from recognition_checkpoints import save_checkpoint, write_noise
from typer.testing import CliRunner, Result

from wav2vec2.command_line.app import app
from wav2vec2.command_line.progress import RemainingTime
from wav2vec2.evaluation.evaluation import ErrorRate, Evaluation
from wav2vec2.evaluation.evaluation_run import named_recordings, without_paths
from wav2vec2.evaluation.provenance import weight_files
from wav2vec2.evaluation.scoring import error_rates
from wav2vec2.files.strict_records import RecordError
from wav2vec2.inference import Transcriber, Transcript

ARPA = """\\data\\
ngram 1=6
ngram 2=1

\\1-grams:
-99 <s> -0.3
-0.8 </s>
-1.5 <unk>
-0.7 a -0.2
-0.9 be
-1.0 ha

\\2-grams:
-0.2 a be

\\end\\
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a language model, and four recordings of two speakers of which one is no audio."""
    folder = tmp_path_factory.mktemp("secret-user")
    checkpoint = save_checkpoint(folder / "model")
    lines = ["path\tspeaker\ttranscript"]
    for number in range(4):
        audio = write_noise(folder / "audio" / f"{number}.wav", 1.0 + number / 2, seed=number)
        found = Transcriber.from_pretrained(checkpoint, device="cpu").transcribe(audio)
        assert isinstance(found, Transcript)
        words = found.text.split()
        said = [" ".join(["a<b", *words[2:]]), found.text, "", " ".join(words[:-1]) + " &amp;"][number]
        lines.append(f"audio/{number}.wav\ts{number % 2}\t{said}")
    (folder / "audio" / "bad.wav").write_text("no audio at all")
    lines.append("audio/bad.wav\ts0\tx")
    lines.append("audio/missing.wav\ts1\ty")
    (folder / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "words.arpa").write_text(ARPA, encoding="utf-8")
    return folder


def run(place: Path, *arguments: object) -> Result:
    options = ["--model", str(place / "model"), "--data", str(place / "test.tsv"), "--device", "cpu"]
    result: Result = CliRunner().invoke(app, ["evaluate", *options, *map(str, arguments)])
    return result


@pytest.fixture(scope="module")
def output(place: Path) -> Path:
    options = ["--lm", place / "words.arpa", "--beam", 20, "--output", place / "out", "--resamples", 200]
    names = ["--dataset-name", "noise", "--dataset-split", "test", "--dataset-revision", "1"]
    result = run(place, *options, *names)
    assert result.exit_code == 1, result.output  # two recordings failed
    assert "2 recordings failed" in result.stderr
    assert re.search(r"greedy [\d.]+ times as fast as speech: [\d.]+ s for 7\.0 s of audio", result.stdout)
    assert re.search(r"beam makes fewer word errors than greedy with probability [01]\.\d{3}", result.stdout)
    return place / "out"


def rows_of(output: Path) -> list[dict[str, str]]:
    header, *lines = (line.split("\t") for line in (output / "utterances.tsv").read_text("utf-8").splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_the_figures_are_those_of_the_texts(place: Path, output: Path) -> None:
    """Counted again from the table, whose greedy texts are the transcriber's."""
    evaluation = Evaluation.from_json((output / "evaluation.json").read_text("utf-8"))
    rows = rows_of(output)
    assert [row["id"] for row in rows] == [f"audio/{number}.wav" for number in range(4)]
    found = Transcriber.from_pretrained(place / "model", device="cpu").transcribe([place / row["id"] for row in rows])
    assert isinstance(found, list)
    assert [row["greedy"] for row in rows] == [one.text for one in found]
    assert [one.name for one in evaluation.decodings] == ["greedy", "beam"]
    for decoding in evaluation.decodings:
        rates = error_rates([row["reference"] for row in rows], [row[decoding.name] for row in rows])
        for counted, rate in ((rates.words, decoding.wer), (rates.characters, decoding.cer)):
            assert (counted.rate, counted.substitutions, counted.deletions) == (
                rate.rate,
                rate.substitutions,
                rate.deletions,
            )
            assert rate.interval is not None and rate.speaker_interval is not None
            assert rate.interval.low <= rate.rate <= rate.interval.high
        wrong = sum(int(row[f"{decoding.name}_words_{kind}"]) for row in rows for kind in
                    ("substituted", "deleted", "inserted"))  # fmt: skip
        assert wrong == rates.words.errors
        assert decoding.audio_seconds == 1.0 + 1.5 + 2.0 + 2.5
        assert decoding.real_time_factor == decoding.seconds / 7.0
    greedy = evaluation.decodings[0].wer
    assert greedy.substitutions >= 1 and greedy.insertions >= 1
    assert evaluation.comparison is not None and evaluation.comparison.by_utterance is not None
    difference = evaluation.decodings[1].wer.rate - greedy.rate
    assert evaluation.comparison.by_utterance.difference == pytest.approx(difference, abs=1e-12)


def test_what_a_model_card_needs_is_there(place: Path, output: Path) -> None:
    found = Evaluation.from_json((output / "evaluation.json").read_text("utf-8"))
    weights = place / "model" / "model.safetensors"
    assert found.model.weights == {"model.safetensors": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert (found.model.name, found.model.precision) == ("model", "float32")
    assert found.data.manifest_sha256 == hashlib.sha256((place / "test.tsv").read_bytes()).hexdigest()
    assert (found.data.name, found.data.split, found.data.revision) == ("noise", "test", "1")
    assert (found.utterances, found.speakers, found.normalizer) == (4, 2, "none")
    assert found.hours == pytest.approx(7.0 / 3600)
    assert found.decodings[0].settings == {"search": "greedy"}
    beam = found.decodings[1].settings
    assert (beam["beam"], beam["language_model"], beam["language_model_order"]) == (20, "words.arpa", 2)
    assert {"alpha", "beta", "unknown_penalty"} <= set(beam)
    assert found.versions["torch"] == torch.__version__
    assert found.resampling.resamples == 200
    assert [failure.id for failure in found.failures] == ["audio/bad.wav", "audio/missing.wav"]
    assert all(failure.id in failure.reason for failure in found.failures)
    assert found.best.wer.rate == min(one.wer.rate for one in found.decodings)


def test_nothing_tells_of_this_machine(place: Path, output: Path) -> None:
    assert sorted(path.name for path in output.iterdir()) == ["evaluation.html", "evaluation.json", "utterances.tsv"]
    for path in output.iterdir():
        content = path.read_text("utf-8")
        assert "secret-user" not in content
        assert str(Path.home()) + "/" not in content


class _Page(HTMLParser):
    """The texts of the aligned words by kind, whether tags match, and what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "!doctype"):
            self.open.append(tag)
        self.fetched += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_legible_without_colour(output: Path) -> None:
    content = (output / "evaluation.html").read_text("utf-8")
    page = _Page()
    page.feed(content)
    assert (page.open, page.fetched) == ([], [])
    assert "url(" not in content and "<script" not in content
    assert "a<b" in page.text and "<b," not in page.text  # texts are escaped
    assert "&amp;" in page.text
    evaluation = Evaluation.from_json((output / "evaluation.json").read_text("utf-8"))
    for decoding in evaluation.decodings:
        assert f"{decoding.wer.rate:.2%}".replace("%", " %") in page.text
    words = re.findall(r'<span class="w (\w+)" title="\w+">(?:<span[^>]*>.*?</span>){2}<i>(\w?)</i>', content)
    assert {("substitution", "S"), ("insertion", "I"), ("hit", "")} <= set(words)
    assert {kind: letter for kind, letter in words}.items() >= {"deletion": "D"}.items()
    aligned = [word for word in words[4:] if word[0] != "hit"]  # without the legend
    assert len(aligned) == sum(int(row[f"{way}_words_{kind}"]) for row in rows_of(output) if wrong(row, "beam")
                               for way in ("greedy", "beam") for kind in KINDS)  # fmt: skip
    assert "audio/missing.wav" in page.text


def test_the_page_fits_a_telephone(output: Path) -> None:
    """Captions wrap with the page, outside of what is scrolled; an interval of speakers is in the fourth column."""
    content = (output / "evaluation.html").read_text("utf-8")
    scrolled = re.findall(r'<div class="wide".*?</table></div>', content, re.DOTALL)
    assert len(scrolled) > 3 and not any("caption" in table for table in scrolled)
    assert all(f'<p class="caption">{caption}' in content for caption in ("Errors of the whole corpus", "Computing:"))
    header, *rows = re.findall(r"<tr>.*?</tr>", scrolled[0])
    assert [re.sub("<.*?>", "", cell) for cell in re.findall(r"<th.*?</th>", header)][2:] == [
        "95 %, utterances",
        "95 %, speakers",
    ]
    assert len(rows) == 4 and all(row.count("<td") == 4 and row.count(" to ") == 2 for row in rows)


KINDS = ("substituted", "deleted", "inserted")


def wrong(row: dict[str, str], way: str) -> bool:
    return any(int(row[f"{way}_words_{kind}"]) for kind in KINDS)


def test_greedy_alone_and_json(place: Path) -> None:
    result = run(place, "--json", "--normalizer", "basic", "--model-name", "someone/model")
    found = Evaluation.from_json(result.stdout)
    assert [one.name for one in found.decodings] == ["greedy"]
    assert (found.comparison, found.normalizer, found.model.name) == (None, "basic", "someone/model")
    assert found.data.name == "test"


def test_how_long_it_takes_is_said_in_few_lines(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """Without a terminal: after the first seconds, then once a minute; no line for each of the files."""
    now = [100.0]
    monkeypatch.setattr("wav2vec2.command_line.progress.time.monotonic", lambda: now[0])
    report = RemainingTime(7200.0)
    for _ in range(72):
        now[0] += 2.0
        report.advance(100.0)
        report.finished("a file")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "4% of 2 hours of audio in 6 seconds, 50.0 times as fast as speech: about 2 minutes left"
    assert len(lines) == 3 and lines[1].endswith("about 78 seconds left")


def test_no_line_for_each_file(place: Path) -> None:
    result = run(place, "--resamples", 10)
    assert "0.wav" not in result.stderr.split("recordings failed")[0]


def test_the_options_of_a_search_are_those_of_transcribe(place: Path) -> None:
    """Hotwords alone make a beam search, which is recorded."""
    found = Evaluation.from_json(run(place, "--json", "--hotwords", "abc,de=3").stdout)
    assert found.decodings[1].settings["hotwords"] == 2
    result = run(place, "--device", "nothing")
    assert result.exit_code == 1 and "--device nothing: there is none here" in result.stderr


def test_what_cannot_be_evaluated_is_one_line(place: Path, tmp_path: Path) -> None:
    result = run(place, "--normalizer", "other")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "must be one of model, none, casefold, basic" in result.stderr
    for name, content, message in (
        ("none.tsv", "path\na.wav\n", "no column `transcript`"),
        ("empty.tsv", "path\ttranscript\n", "none of its 0 recordings"),
        (
            "bad.tsv",
            "path\ttranscript\nx.wav\ta\n",
            "none of its 1 recordings could be evaluated: [Errno 2] No such file or directory: 'x.wav'",
        ),
        ("twice.tsv", "path\ttranscript\nx.wav\ta\nx.wav\tb\n", "1 ids stand more than once: x.wav"),
    ):
        (tmp_path / name).write_text(content)
        result = run(place, "--data", tmp_path / name)
        assert result.exit_code == 1
        assert message in result.stderr


def test_reading_back_is_strict(output: Path) -> None:
    text = (output / "evaluation.json").read_text("utf-8")
    evaluation = Evaluation.from_json(text)
    assert evaluation.to_json() == text
    assert Evaluation.from_json(evaluation.to_json()) == evaluation

    def refused(change: Any) -> str:
        content = json.loads(text)
        change(content)
        with pytest.raises(RecordError) as caught:
            Evaluation.from_json(json.dumps(content))
        return str(caught.value)

    assert refused(lambda c: c.update(other=1)) == "Evaluation.other is unknown"
    assert refused(lambda c: c["model"].pop("name")) == "Evaluation.model.name is missing"
    assert refused(lambda c: c.update(utterances="4")) == "Evaluation.utterances is str: must be int"
    assert refused(lambda c: c.update(utterances=True)) == "Evaluation.utterances is bool: must be int"
    assert refused(lambda c: c.update(hours=float("nan"))) == "Evaluation.hours is nan: must be a finite number"
    assert refused(lambda c: c.update(format=2)) == "Evaluation: format=2: this version reads 1"
    assert refused(lambda c: c.update(decodings=[])).startswith("Evaluation: decodings is empty")
    assert "decodings[0].wer.rate is NoneType" in refused(lambda c: c["decodings"][0]["wer"].update(rate=None))
    assert "is not what the counts say" in refused(lambda c: c["decodings"][1]["wer"].update(rate=0.001))
    assert "settings.beam is list" in refused(lambda c: c["decodings"][1]["settings"].update(beam=[]))
    assert "settings.alpha is nan" in refused(lambda c: c["decodings"][1]["settings"].update(alpha=float("nan")))
    assert refused(lambda c: c.update(model=None)) == "Evaluation.model is NoneType: must be dict"
    with pytest.raises(RecordError, match="is not JSON"):
        Evaluation.from_json(text[:100])
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(evaluation, seconds=float("inf")).to_json()


def test_a_rate_that_its_counts_deny_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="rate=0.5 of 4"):
        ErrorRate(0.5, 1, 0, 0, 3, 4, None, None)
    with pytest.raises(ValueError, match="below 0"):
        ErrorRate(0.0, -1, 1, 0, 4, 4, None, None)


def test_names_of_recordings_outside_the_manifest(tmp_path: Path) -> None:
    """Inside: relative to the manifest. Outside: only what they do not have in common. Columns `id` go first."""
    manifest = tmp_path / "lists" / "test.tsv"
    manifest.parent.mkdir()
    far = tmp_path / "home" / "ann"
    lines = ["path\ttranscript", "in/a.wav\tx", f"{far}/one/b.wav\ty", f"{far}/two/b.wav\tz"]
    manifest.write_text("\n".join(lines) + "\n")
    assert list(named_recordings(manifest)) == ["in/a.wav", "one/b.wav", "two/b.wav"]
    manifest.write_text(f"path\tid\ttranscript\n{far}/one/b.wav\tu1\ty\n")
    assert list(named_recordings(manifest)) == ["u1"]
    reason = f"[Errno 2] No such file: '{far}/one/b.wav' (near {tmp_path}/lists/x)"
    assert without_paths(reason, "u1", far / "one" / "b.wav", manifest) == "[Errno 2] No such file: 'u1' (near x)"


def test_every_piece_of_a_checkpoint_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "2.st", "b": "1.st"}}))
    for name in ("1.st", "2.st", "adapter.eng.safetensors", "adapter.fra.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    found = weight_files(str(tmp_path), "eng")
    names = ["1.st", "2.st", "adapter.eng.safetensors"]
    assert found == {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
