"""What libsndfile cannot read goes through the `ffmpeg` program: a stand-in for it, and the real one where it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_samples import encoded, recording, sweep
from ffmpeg_programs import REAL_PROGRAMS, folder_of

from wav2vec2.processing.audio_files import audio_blocks, audio_duration, load_audio
from wav2vec2.processing.audio_sources import AudioError

pytestmark = pytest.mark.slow

#: Answers like the program: notes how it was called, and plays the AU file beside it, or does what BEHAVIOUR says.
STAND_IN = """#!{python}
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "calls.jsonl"), "a") as calls:
    path = sys.argv[sys.argv.index("-i") + 1].removeprefix("file:")
    print(json.dumps([*sys.argv[1:], os.path.getsize(path)]), file=calls)
with open(os.path.join(here, "sound.au"), "rb") as sound:
    data = sound.read()
if "pipe:1" not in sys.argv:
    print("Input #0, mov\\n  Duration: 01:02:03.50, start: 0\\n  Stream #0:0(und): Audio: aac", file=sys.stderr)
    sys.exit(1)
{behaviour}
"""

PLAY = "sys.stdout.buffer.write(data)"
UNREADABLE = b"\x00\x00\x00\x20ftypM4A " + bytes(200)


class StandIn:
    """A folder with a program called ffmpeg."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.behave(PLAY)

    def behave(self, behaviour: str) -> None:
        """From now on it does this instead of playing its sound."""
        program = self.folder / "ffmpeg"
        program.write_text(STAND_IN.format(python=sys.executable, behaviour=behaviour))
        program.chmod(0o755)

    def plays(self, samples: Any, rate: int) -> None:
        """What it answers."""
        (self.folder / "sound.au").write_bytes(encoded(samples, rate, "AU", "FLOAT"))

    def calls(self) -> list[list[Any]]:
        """The arguments of each call, and the size of the file that it was to read."""
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The only program on the PATH."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a script")
    program = StandIn(tmp_path / "programs")
    program.plays(sweep(44100, 2.0, channels=2), 44100)
    monkeypatch.setenv("PATH", str(program.folder))
    return program


def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that it is missing and what it is needed for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for read in (load_audio, audio_duration):
        with pytest.raises(AudioError, match=r"m4a, mp4, webm .* need the program ffmpeg, which is not on the PATH"):
            read(UNREADABLE)


def test_its_answer_is_the_audio(stand_in: StandIn, tmp_path: Path) -> None:
    """Rate and channels from its header, then mixed, resampled and cut as any other."""
    path = tmp_path / "talk.m4a"
    path.write_bytes(UNREADABLE)
    expected = load_audio(encoded(sweep(44100, 2.0, channels=2), 44100, "WAV", "FLOAT"))
    np.testing.assert_array_equal(load_audio(path), expected)
    np.testing.assert_array_equal(np.concatenate(list(audio_blocks(path, block_seconds=0.3))), expected)
    assert audio_duration(path) == 3723.5
    with pytest.raises(AudioError, match="2 channels"):
        load_audio(path, channels="error")


def test_how_it_is_called(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is an option or an address, nothing but local files may be opened, and it is never told to seek."""
    monkeypatch.chdir(tmp_path)
    for name in ("-y.m4a", "http:evil.m4a", "a;touch owned.m4a", "ü $(id).m4a"):
        Path(name).write_bytes(UNREADABLE)
        load_audio(name, start=1.5, duration=0.1)
        *arguments, _ = stand_in.calls()[-1]
        assert arguments[arguments.index("-i") + 1] == f"file:{tmp_path / name}"
        assert arguments[arguments.index("-protocol_whitelist") + 1] == "file"
        assert "-nostdin" in arguments and "-ss" not in arguments
    assert not Path("owned.m4a").exists()


def test_bytes_reach_it_as_a_file(stand_in: StandIn) -> None:
    """An mp4 file cannot be read from a pipe. The copy is gone afterwards."""
    assert len(load_audio(UNREADABLE)) == 32000
    *arguments, size = stand_in.calls()[-1]
    assert size == len(UNREADABLE)
    assert not Path(arguments[arguments.index("-i") + 1].removeprefix("file:")).exists()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (
            'sys.exit("[mov @ 0x5] moov atom not found\\nInvalid data")',
            r"nor ffmpeg \(moov atom not found\) can read it",
        ),
        ("sys.exit(3)", r"nor ffmpeg \(exit status 3\)"),
        ("pass", "no reason given"),
        ('sys.stdout.write("not an AU file at all, but text")', "did not write the audio it was asked for"),
        ('sys.stdout.buffer.write(data); sys.exit("corrupt input packet")', "corrupt or truncated: .*corrupt input"),
        ('sys.stdout.buffer.write(data); print("File ended", file=sys.stderr)', "corrupt or truncated: .*File ended"),
        ("sys.stdout.buffer.write(data); sys.exit(1)", "corrupt or truncated: .*exit status 1"),
        ("sys.stdout.buffer.write(data[:16] + b'\\0\\0\\0\\1' + data[20:])", "1 samples a second: corrupt"),
        ("sys.stdout.buffer.write(data[:20] + b'\\0\\0\\0\\0' + data[24:])", "0 channels: corrupt"),
        ("sys.stdout.buffer.write(data[:28])", "no samples in it"),
        ("while True: sys.stderr.write('bad packet ' * 1000)", "bad packet"),
    ],
)
def test_when_it_fails(behaviour: str, reason: str, stand_in: StandIn) -> None:
    """Its own words, in one error, and never more of them than fit."""
    if behaviour.startswith("while"):
        behaviour = f"for _ in range(500): {behaviour.removeprefix('while True: ')}\nsys.exit(1)"
    if behaviour.endswith("data[:28])"):
        behaviour = "sys.stdout.buffer.write(data[:int.from_bytes(data[4:8], 'big')])"
    stand_in.behave(behaviour)
    with pytest.raises(AudioError, match=reason) as caught:
        load_audio(UNREADABLE)
    assert len(str(caught.value)) < 10_000


def test_a_program_that_cannot_run(stand_in: StandIn) -> None:
    """Not a program at all: still an AudioError."""
    (stand_in.folder / "ffmpeg").write_bytes(b"\x7fELF nothing")
    with pytest.raises(AudioError, match="cannot be run"):
        load_audio(UNREADABLE)


def test_endless_audio_ends_with_the_reader(stand_in: StandIn) -> None:
    """The program is stopped when enough has been read: it never fills the memory, nor stays behind."""
    stand_in.behave("sys.stdout.buffer.write(data)\nwhile True: sys.stdout.buffer.write(data[-8192:])")
    assert len(load_audio(UNREADABLE, duration=30.0)) == 480_000
    blocks = audio_blocks(UNREADABLE, block_seconds=1.0)
    assert len(next(blocks)) == 16000
    del blocks


@pytest.fixture(params=REAL_PROGRAMS)
def real(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a real program, the only one on the PATH; each program that this machine has in turn."""
    folder = folder_of(request.param, tmp_path / "real")
    monkeypatch.setenv("PATH", folder)
    return Path(folder)


def converted(real: Path, target: Path, *options: str) -> Path:
    """Four seconds of a sweep as the real program writes it."""
    source = target.with_suffix(".wav")
    source.write_bytes(encoded(sweep(44100, 4.0), 44100))
    command = [str(real / "ffmpeg"), "-v", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return target


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("talk.m4a", ""),
        ("talk.webm", ""),
        ("vorbis.webm", "-c:a libvorbis"),
        ("talk.mka", ""),
        (
            "recorded.mp4",
            "-c:a libopus -movflags frag_keyframe+empty_moov -frag_duration 500000",
        ),  # as browsers write it
    ],
)
def test_the_real_program(name: str, options: str, real: Path, tmp_path: Path) -> None:
    """The sweep comes back, whole, in part, in blocks, from bytes; cut off, it is an error."""
    path = converted(real, tmp_path / name, *options.split())
    samples = load_audio(path)
    assert audio_duration(path) == pytest.approx(4.0, abs=0.05)
    np.testing.assert_allclose(samples[800:60000], sweep(16000, 4.0)[800:60000], rtol=0, atol=0.05)
    np.testing.assert_array_equal(load_audio(path.read_bytes()), samples)
    np.testing.assert_array_equal(np.concatenate(list(audio_blocks(path, block_seconds=0.7))), samples)
    for start in (0.9, 1.0, 2.3, 3.1):
        first = round(start * 16000)
        part = load_audio(path, start=start, duration=0.9)
        np.testing.assert_allclose(part, samples[first : first + 14400], rtol=0, atol=1e-6)
    with pytest.raises(AudioError, match="nothing at start=5"):
        load_audio(path, start=5.0)
    with pytest.raises(AudioError):
        load_audio(path.read_bytes()[: path.stat().st_size // 2])


def test_the_sound_of_a_video_that_begins_late(real: Path, tmp_path: Path) -> None:
    """A part is the same part of the sound, not of the picture."""
    sound = tmp_path / "sound.wav"
    sound.write_bytes(encoded(sweep(44100, 4.0), 44100))
    video = ["-f", "lavfi", "-i", "color=size=64x64:rate=10:duration=4", "-itsoffset", "0.517", "-i", str(sound)]
    command = [str(real / "ffmpeg"), "-v", "error", *video, "-c:v", "mpeg4", str(tmp_path / "video.mp4")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    samples = load_audio(tmp_path / "video.mp4")
    part = load_audio(tmp_path / "video.mp4", start=2.3, duration=0.9)
    np.testing.assert_allclose(part, samples[36800:51200], rtol=0, atol=1e-6)


def test_a_reason_of_the_real_program_is_the_same_each_time(real: Path, tmp_path: Path) -> None:
    """Its words without a path of this machine: reasons are listed, compared on resuming, and published."""
    damaged = tmp_path / "a: damaged.bin"
    damaged.write_bytes(b"no audio at all")
    reasons = []
    for source in (b"no audio at all", b"no audio at all", damaged):
        for read in (load_audio, audio_duration):
            with pytest.raises(AudioError, match="nor ffmpeg") as caught:
                read(source)
            reasons.append(caught.value.reason)
    assert not any(word in reason for reason in reasons for word in (str(tmp_path), "wav2vec2-", damaged.name, "file:"))
    assert len(set(reasons[::2])) == len(set(reasons[1::2])) == 1


def test_the_real_program_reads_what_libsndfile_would_cut(real: Path, tmp_path: Path) -> None:
    """MP3 files joined end to end; and a playlist opens nothing but itself."""
    assert len(load_audio(recording("mp3") * 2)) == pytest.approx(96000, abs=2000)
    secret = tmp_path / "secret.wav"
    secret.write_bytes(recording("wav 16 bit"))
    playlist = f"#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:9/{secret}\n#EXT-X-ENDLIST\n"
    with pytest.raises(AudioError, match="neither libsndfile"):
        load_audio(playlist.encode())
