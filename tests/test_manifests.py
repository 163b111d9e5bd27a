"""Manifests: what they say is read, what is wrong with them is named."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_data import SHARED_DATA, needs_shared_data

from wav2vec2.processing.manifests import ManifestError, Recording, read_manifest


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "manifest.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def test_every_column_is_read(tmp_path: Path) -> None:
    """In any order; paths are relative to the manifest, other columns are kept, what is left out is None."""
    path = write(
        tmp_path,
        "transcript\tpath\tduration\tsample_rate\tspeaker\tinfo\n"
        "HELLO\ta/b.flac\t1.5\t16000\t19\tF\r\n"
        "\n"
        "\tc d.wav\t\t\t\t\n",
    )
    assert list(read_manifest(path)) == [
        Recording(tmp_path / "a/b.flac", 1.5, 16000, "19", "HELLO", {"info": "F"}),
        Recording(tmp_path / "c d.wav", None, None, None, "", {"info": ""}),
    ]


def test_a_path_is_enough(tmp_path: Path) -> None:
    """With a byte order mark or without."""
    for text in ("path\nx.wav\n", "\ufeffpath\nx.wav"):
        assert list(read_manifest(write(tmp_path, text))) == [Recording(tmp_path / "x.wav")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the header has no column `path`"),
        ("file\nx.wav\n", "line 1: the header has no column `path`"),
        ("path\tpath\nx\ty\n", "line 1: a column stands twice"),
        ("path\tduration\nx.wav\n", "line 2: 1 columns, but the header has 2"),
        ("path\tduration\nx.wav\t1\ny.wav\tlong\n", "line 3: could not convert"),
        ("path\tduration\nx.wav\t-1\n", "line 2: duration=-1: must be seconds"),
        ("path\tduration\nx.wav\tnan\n", "line 2: duration=nan: must be seconds"),
        ("path\tsample_rate\nx.wav\t0\n", "line 2: sample_rate=0: must be above 0"),
        ("path\tspeaker\n\tme\n", "line 2: `path` must name a file"),
        (b"path\n\xff\n", "line 2: is not UTF-8"),
        (b"path\n" + b"x" * (1 << 21), "line 2: longer than"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(text: str | bytes, message: str, tmp_path: Path) -> None:
    """The file, the line and the fault."""
    path = write(tmp_path, text)
    with pytest.raises(ManifestError) as error:
        list(read_manifest(path))
    assert message in str(error.value)
    assert str(path) in str(error.value)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from([b"", b"path\n", b"path\tduration\tsample_rate\n"]))
def test_any_bytes_give_recordings_or_one_error(tmp_path: Path, body: bytes, header: bytes) -> None:
    """Never another exception."""
    try:
        found = list(read_manifest(write(tmp_path, header + body)))
    except ManifestError:
        return
    assert all(isinstance(one, Recording) and one.duration != float("inf") for one in found)


@needs_shared_data("librispeech_train", "librispeech_unlabelled", "fsdd")
def test_real_manifests() -> None:
    """Every file is there and lasts as long as it says."""
    from wav2vec2.processing.audio_files import audio_duration

    for folder, files in (("librispeech_train", 164), ("librispeech_unlabelled", 90), ("fsdd", 1200)):
        recordings = list(read_manifest(SHARED_DATA / folder / "manifest.tsv"))
        assert len(recordings) == files
        for one in recordings[::20]:
            assert audio_duration(one.path) == pytest.approx(one.duration, abs=0.01)
