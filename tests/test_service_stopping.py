"""`wav2vec2 serve` as a process: it starts, is stopped by a signal, and answers what is in flight before it ends."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from recognition_checkpoints import save_checkpoint, write_noise
from typer.testing import CliRunner

from wav2vec2 import Transcriber
from wav2vec2.command_line.app import app
from wav2vec2.inference import Transcript


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small")


@contextmanager
def process(*options: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and where it listens."""
    command = [sys.executable, "-m", "wav2vec2", "serve", *map(str, options), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            yield running, line.split(" at ")[1].partition(",")[0]
        finally:
            running.kill()


@pytest.mark.slow
def test_what_is_in_flight_is_answered_before_the_end(checkpoint: Path, tmp_path: Path) -> None:
    talk = write_noise(tmp_path / "talk.wav", 100.0)
    right = Transcriber.from_pretrained(checkpoint, device="cpu").transcribe(talk)
    assert isinstance(right, Transcript)
    with process(checkpoint) as (running, address), ThreadPoolExecutor(1) as client:
        place = f"{address}/v1/audio/transcriptions"
        asked = client.submit(httpx.post, place, files={"file": talk.read_bytes()}, timeout=120)
        while "wav2vec2_working_on 1\n" not in httpx.get(f"{address}/metrics").text:
            assert not asked.done()
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        assert asked.result().json()["text"] == right.text
        out, errors = running.communicate(timeout=60)
        assert (running.returncode, errors) == (0, "")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")


def test_what_cannot_be_served_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run(app, ["serve", str(checkpoint), "--device", "cpu", "--port", port])
        assert result.exit_code == 1
        assert f"serve: 127.0.0.1, port {port}: cannot be listened at: Address already in use" in result.stderr
    result = run(app, ["serve", str(tmp_path / "nothing")])
    assert result.exit_code == 1 and "no such folder" in result.stderr
    keys = tmp_path / "keys"
    keys.write_text("short")
    result = run(app, ["serve", str(checkpoint), "--api-key-file", str(keys)])
    assert result.exit_code == 1 and "at least 16" in result.stderr
    assert run(app, ["serve", str(checkpoint), "--queue", "0"]).exit_code == 2
