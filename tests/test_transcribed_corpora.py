"""`wav2vec2 transcribe` of manifests and shards: texts of the plain command, each clip once, whatever fails."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fsspec.implementations.memory import MemoryFileSystem
from recognition_checkpoints import RATE, noise, save_checkpoint, write_noise
from shard_files import write_shar
from training_audio import write_parquet
from typer.testing import CliRunner, Result

from wav2vec2.command_line.app import app
from wav2vec2.files.shared_work import Claims
from wav2vec2.inference import Transcriber
from wav2vec2.inference.corpus_transcripts import Wanted, transcribe_units
from wav2vec2.shards import clip_collections
from wav2vec2.shards.clip_collections import Clip, units_of

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def wav(seconds: float, seed: int) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, noise(seconds, seed), RATE, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def clips(first: int, count: int) -> dict[str, bytes]:
    """Clips of different lengths, by name."""
    return {f"clip{number}": wav(0.4 + 0.05 * (number % 7), number) for number in range(first, first + count)}


def write_shard(path: Path, content: dict[str, bytes]) -> Path:
    write_parquet(path, ({"id": name, "audio": {"bytes": audio, "path": None}} for name, audio in content.items()))
    return path


def write_tar(path: Path, content: dict[str, bytes]) -> Path:
    """As WebDataset's: members of one sample side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, audio in content.items():
            for member, data in ((f"{name}.json", b"{}"), (f"{name}.wav", audio), (f"._{name}.wav", b"of a Mac")):
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


def run(checkpoint: Path, *arguments: object) -> Result:
    options = ["--model", str(checkpoint), "--device", "cpu"]
    result: Result = RUNNER.invoke(app, ["transcribe", *map(str, arguments), *options])
    return result


def rows(folder: Path) -> list[dict[str, object]]:
    lines = (line for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text("utf-8").splitlines())
    return [json.loads(line) for line in lines]


def plain_texts(checkpoint: Path, content: dict[str, bytes]) -> dict[str, str]:
    """What `Transcriber` makes of each clip alone."""
    transcriber = Transcriber.from_pretrained(checkpoint, device="cpu")
    return {name: transcriber.transcribe(audio).text for name, audio in content.items()}  # type: ignore[union-attr]


def test_every_kind_has_the_texts_of_the_plain_command(checkpoint: Path, tmp_path: Path) -> None:
    """Parquet, tars, Shar and a manifest; rows have the confidence of their words; the second run has nothing to do."""
    content = clips(0, 13)
    names = list(content)
    audio, out = tmp_path / "audio", tmp_path / "out"
    write_shard(tmp_path / "shards" / "de" / "a.parquet", {name: content[name] for name in names[:3]})
    write_tar(tmp_path / "shards" / "b.tar", {name: content[name] for name in names[3:6]})
    packed = write_tar(tmp_path / "c.tar", {name: content[name] for name in names[9:11]})
    (tmp_path / "shards" / "c.tar.gz").write_bytes(gzip.compress(packed.read_bytes()))
    shar = [{"id": name, "audio": content[name], "seconds": 0.5} for name in names[11:]]
    write_shar(tmp_path / "shards" / "shar", 0, [*shar, {"id": "silent", "audio": None, "seconds": 0.5}])
    for name in names[6:9]:
        (audio / f"{name}.wav").parent.mkdir(exist_ok=True)
        (audio / f"{name}.wav").write_bytes(content[name])
    manifest = tmp_path / "more.tsv"
    manifest.write_text("path\tid\n" + "".join(f"audio/{name}.wav\t{name}\n" for name in names[6:9]))
    result = run(checkpoint, tmp_path / "shards", manifest, "--output", out, "--timestamps", "word")
    assert result.exit_code == 0, result.output
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.jsonl"))
    assert written == [
        *("b.tar.jsonl", "c.tar.gz.jsonl", "de/a.parquet.jsonl", "more.tsv.000000002-000000004.jsonl"),
        "shar/recording.000000.tar.jsonl",
    ]
    found = rows(out)
    assert {row["id"]: row["text"] for row in found} == plain_texts(checkpoint, content)
    assert len(found) == 13
    for row in found:
        confidences = [word["confidence"] for word in row["words"]]  # type: ignore[attr-defined]
        assert row["confidence"] == pytest.approx(np.mean(confidences), abs=2e-4)
        assert row["seconds"] == pytest.approx(len(content[str(row["id"])]) / 2 / RATE, abs=0.002)
    assert list((out / ".claims").iterdir()) == []
    assert (
        "all 5 units are finished"
        in run(checkpoint, tmp_path / "shards", manifest, "--output", out, "--timestamps", "word").stderr
    )

    plain = run(checkpoint, audio, "--output", tmp_path / "plain")
    assert plain.exit_code == 0
    for row in found[8:11]:
        assert (tmp_path / "plain" / f"{row['id']}.txt").read_text("utf-8") == f"{row['text']}\n"


def test_nothing_bad_stops_the_rest(checkpoint: Path, tmp_path: Path) -> None:
    """Bad clips, empty rows, truncated and foreign shards, lines that are none: each is a row with its error."""
    shards, out = tmp_path / "shards", tmp_path / "out"
    good = clips(0, 4)
    whole = write_tar(shards / "cut.tar", good).read_bytes()
    (shards / "cut.tar").write_bytes(whole[: whole.index(good["clip2"][:4096]) + 5000])
    end = whole.index(b"clip3.json")  # a member's header: Python takes what is cut off here for whole
    (shards / "cut_between.tar").write_bytes(whole[:end])
    (shards / "overwritten.tar").write_bytes(whole[:end] + b"?" * 512 + whole[end + 512 :])
    (shards / "empty.tar").write_bytes(b"")
    (shards / "text.parquet").write_text("no parquet")
    cut = write_shard(shards / "cut.parquet", good).read_bytes()
    (shards / "cut.parquet").write_bytes(cut[: len(cut) // 2])
    write_parquet(shards / "foreign.parquet", [{"sound": b"", "id": "a"}])
    stereo = io.BytesIO()
    soundfile.write(stereo, np.stack([noise(0.5), noise(0.5)], 1), 8000, format="FLAC")
    mixed = {"bad": b"no audio", "none": None, "nothing": b"", "stereo8k": stereo.getvalue(), "nan": nan_wav()}
    write_shard(shards / "mixed.parquet", mixed)  # type: ignore[arg-type]
    manifest = tmp_path / "m.tsv"
    write_noise(tmp_path / "there.wav", 0.5, seed=3)
    manifest.write_bytes(b"path\tspeaker\nmissing.wav\tx\nthere.wav\ty\none column\n\xff.wav\ty\n\n")
    result = run(checkpoint, shards, manifest, "--output", out)
    assert result.exit_code == 1
    found = {str(row["id"]): row for row in rows(out)}
    texts = plain_texts(checkpoint, {name: good[name] for name in ("clip0", "clip1")})
    there = (tmp_path / "there.wav").read_bytes()
    texts |= plain_texts(checkpoint, {"stereo8k": stereo.getvalue(), "there.wav": there})
    assert {name: found[name]["text"] for name in texts} == texts
    for name in ("bad", "none", "nothing", "nan", "missing.wav", f"{manifest}, line 4", f"{manifest}, line 5"):
        assert found[name]["error"], name
    for name in ("cut.tar", "cut_between.tar", "overwritten.tar", "empty.tar", "text.parquet", "cut.parquet"):
        assert f"{name}: the shard is damaged" in str(found[str(shards / name)]["error"]), name
    assert "no column `audio` (its columns: sound, id)" in str(found[str(shards / "foreign.parquet")]["error"])
    rows_of_cut = [json.loads(line)["id"] for line in (out / "cut_between.tar.jsonl").read_text().splitlines()]
    assert rows_of_cut == ["clip0", "clip1", "clip2", str(shards / "cut_between.tar")]
    assert "14 clips or shards could not be used" in result.stderr


def nan_wav() -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.full(8000, np.nan, np.float32), RATE, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def test_processes_side_by_side_do_each_clip_once(checkpoint: Path, tmp_path: Path) -> None:
    """Three workers over six shards in one folder of results: every clip is transcribed once, by one of them."""
    content = clips(0, 18)
    names = list(content)
    for number in range(6):
        write_shard(tmp_path / "in" / f"{number}.parquet", {one: content[one] for one in names[number * 3 :][:3]})
    units = units_of([str(tmp_path / "in")])
    results = [tmp_path / "out" / f"{unit.place}.jsonl" for unit in units]
    done: list[list[str]] = [[], [], []]

    def work(number: int) -> None:
        transcriber = Transcriber.from_pretrained(checkpoint, device="cpu")
        division = Claims(tmp_path / "out" / ".claims", 60.0, lambda units: None)
        for report in transcribe_units(transcriber, units, results, division, Wanted(), lambda seconds: None):
            assert (report.clips, report.faults, report.unfinished) == (3, [], None)
            done[number].append(report.unit.place)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(place for one in done for place in one) == [f"{number}.parquet" for number in range(6)]
    found = rows(tmp_path / "out")
    assert len(found) == 18 and {row["id"]: row["text"] for row in found} == plain_texts(checkpoint, content)


@pytest.mark.slow
def test_what_a_killed_process_was_at_is_taken_over(checkpoint: Path, tmp_path: Path) -> None:
    """`kill -9` of the command in the middle of a shard; the next one, once the claim has grown old, does all."""
    content = clips(0, 6)
    names = list(content)
    long = {"long": wav(60.0, 1)}
    write_shard(tmp_path / "in" / "a.parquet", {one: content[one] for one in names[:3]} | long)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "wav2vec2", "transcribe", str(tmp_path / "in"), "--output", str(out)]
    command += ["--model", str(checkpoint), "--device", "cpu", "--batch-seconds", "30"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not list((out / ".claims").glob("*.0")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert list(out.glob("*.jsonl")) == []
    (claim,) = (out / ".claims").glob("*.0")
    old = time.time() - 121
    os.utime(claim, (old, old))  # two minutes pass
    write_shard(
        tmp_path / "in" / "a.parquet", {one: content[one] for one in names[:3]}
    )  # the long clip has done its work
    write_shard(tmp_path / "in" / "b.parquet", {one: content[one] for one in names[3:]})  # more has come meanwhile
    assert run(checkpoint, tmp_path / "in", "--output", out, "--batch-seconds", "30").exit_code == 0
    found = rows(out)
    assert len(found) == 6 and {row["id"]: row["text"] for row in found} == plain_texts(checkpoint, content)


def test_parts_of_a_run_are_disjoint(checkpoint: Path, tmp_path: Path) -> None:
    """With --part nothing is claimed, and the parts together are all."""
    content = clips(0, 3)
    for name, audio in content.items():
        write_shard(tmp_path / "in" / f"{name}.parquet", {name: audio})
    pattern = tmp_path / "in" / "*.parquet"
    for part, there in (("1/2", 2), ("2/2", 3)):
        assert run(checkpoint, pattern, "--output", tmp_path / "out", "--part", part).exit_code == 0
        assert len(rows(tmp_path / "out")) == there
    assert not (tmp_path / "out" / ".claims").exists()
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0"):
        result = run(checkpoint, pattern, "--output", tmp_path / "out", "--part", wrong)
        assert (result.exit_code, "must be K/N" in result.stderr) == (2, True)


def test_shards_behind_urls_are_fetched_again_where_that_fails(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that comes cut off, or not at all, is asked for six times; one that cannot be had is no damaged one:
    the unit stays to do."""
    storage = MemoryFileSystem()
    content = clips(0, 2)
    for name, audio in content.items():
        storage.pipe(f"/corpus/{name}.parquet", write_shard(tmp_path / "one.parquet", {name: audio}).read_bytes())
    faults = ["down", "cut"] + ["down"] * 6
    fetch = MemoryFileSystem.get_file

    def faulty(files: MemoryFileSystem, remote: str, local: str, **options: object) -> None:
        fault = faults.pop(0) if faults else None
        if fault == "down":
            raise ConnectionError("500")
        fetch(files, remote, local, **options)
        if fault == "cut":
            os.truncate(local, 1000)

    monkeypatch.setattr(MemoryFileSystem, "get_file", faulty)
    monkeypatch.setattr("wav2vec2.shards.storage._WAITS", (0.0,) * 5)
    out = tmp_path / "out"
    result = run(checkpoint, "memory://corpus", "--output", out)
    assert result.exit_code == 1
    assert "asked 6 times: 500" in result.stderr
    assert "1 units have no file yet" in result.stderr
    assert len(rows(out)) == 1
    assert run(checkpoint, "memory://corpus/*.parquet", "--output", out).exit_code == 0
    assert {row["id"]: row["text"] for row in rows(out)} == plain_texts(checkpoint, content)
    storage.rm("/corpus", recursive=True)


def test_a_manifest_is_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows, or by hours where durations are given; each block has its own lines, bytes and all."""
    monkeypatch.setattr(clip_collections, "BLOCK_ROWS", 4)
    manifest = tmp_path / "m.tsv"
    lines = [f"ä{number}.wav\t{3600 if number == 5 else 1800}" for number in range(11)]
    manifest.write_bytes(("\ufeffpath\tduration\r\n" + "\r\n".join(lines)).encode())
    units = units_of([str(manifest)])
    found = [[clip.id for clip in unit.clips()] for unit in units]
    assert found == [[f"ä{number}.wav" for number in block] for block in ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9, 10))]
    first = next(iter(units[0].clips()))
    assert first == Clip("ä0.wav", tmp_path / "ä0.wav")
    assert units[1].place == "m.tsv.000000006-000000008"


def refused(checkpoint: Path, given: Sequence[object], code: int, *said: str) -> None:
    result = run(checkpoint, *given)
    assert result.exit_code == code, result.output
    assert len(result.stderr.strip().splitlines()) == 1 or code == 2
    for text in said:
        assert text in " ".join(result.stderr.replace("│", " ").split()), result.stderr


def test_what_is_wrong_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "in" / "a.parquet", clips(0, 1))
    audio, out = write_noise(tmp_path / "talk.wav", 0.5), ["--output", tmp_path / "out"]
    manifest = tmp_path / "m.tsv"
    manifest.write_text("path\n")
    headless = tmp_path / "headless.tsv"
    headless.write_text("talk.wav\n")
    refused(checkpoint, [shard], 2, "need a folder")
    refused(checkpoint, [shard, *out, "--format", "srt"], 2, "jsonl, not as srt")
    refused(checkpoint, [shard, *out, "--again"], 2, "is for files of audio")
    refused(checkpoint, [audio, "--part", "1/2"], 2, "divides manifests and shards")
    refused(checkpoint, [shard, audio, *out], 1, "do them in two runs")
    refused(checkpoint, [tmp_path / "in" / "*.tar", *out], 1, "no shards there")
    refused(checkpoint, [tmp_path / "missing.parquet", *out], 1, "missing.parquet: no such file or folder")
    refused(checkpoint, [tmp_path / "missing.tsv", *out], 1, "missing.tsv")
    refused(checkpoint, [manifest, *out], 1, "no lines below its header")
    refused(checkpoint, [headless, *out], 1, "no column `path`")
    refused(checkpoint, ["nosuch://bucket/a.parquet", *out], 1, "nosuch")
    refused(checkpoint, [shard, tmp_path / "in", *out], 1, "both are called a.parquet; do them in two runs")
    assert not (tmp_path / "out").exists()
    write_noise(tmp_path / "in" / "talk.wav", 0.5)
    refused(checkpoint, [tmp_path / "in", *out], 1, "holds shards (a.parquet) and files of audio (talk.wav)")


def test_results_are_of_one_way_of_finding_them(checkpoint: Path, tmp_path: Path) -> None:
    """Other options, or other rows, than those that the folder was begun with are refused."""
    write_noise(tmp_path / "talk.wav", 0.5)
    manifest = tmp_path / "m.tsv"
    manifest.write_text("path\ntalk.wav\n")
    out = ["--output", tmp_path / "out"]
    assert run(checkpoint, manifest, *out).exit_code == 0
    manifest.write_text("path\ntalk.wav\ntalk.wav\n")
    refused(checkpoint, [manifest, *out], 1, "has other lines than when")
    shard = write_shard(tmp_path / "a.parquet", clips(0, 1))
    refused(checkpoint, [shard, *out, "--beam", "3"], 1, "was begun with beam=None, not beam=3: take another --output")
