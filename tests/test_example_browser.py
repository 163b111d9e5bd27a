"""`examples/browser` recognises a clip in a real browser, with a model that was exported for it."""

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from recognition_checkpoints import noise, save_checkpoint, write_noise

from wav2vec2 import Transcriber
from wav2vec2.export import export_model
from wav2vec2.inference import Transcript

for module in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(module, reason=f"{module}, of the extra `export`, is not installed")

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[1] / "examples" / "browser"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

SHALLOW: dict[str, Any] = {
    "num_hidden_layers": 2, "conv_dim": (16, 16, 16), "conv_stride": (10, 8, 4), "conv_kernel": (20, 8, 5),
}  # fmt: skip


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and keeps what is posted and what is asked for."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def do_POST(self) -> None:
        self.server.reports.append(self.rfile.read(int(self.headers["content-length"])))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()
        self.server.reported.set()  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """A copy of the page with what npm installs, served on loopback."""
    node = os.environ.get("WAV2VEC2_NODE")
    if node is None:
        pytest.skip("WAV2VEC2_NODE names no folder with node_modules/@huggingface/transformers")
    folder = tmp_path / "site"
    shutil.copytree(PAGE, folder, ignore=shutil.ignore_patterns("node_modules", "models"))
    (folder / "node_modules").symlink_to(Path(node) / "node_modules")
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder)))
    server.reports, server.reported = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server, folder
    server.shutdown()
    server.server_close()
    thread.join()


def shown(server: Any, folder: Path, query: str) -> dict[str, Any]:
    """What the page says in a headless browser that can reach nothing but the server."""
    assert BROWSER is not None
    address = f"http://127.0.0.1:{server.server_port}/?{query}&report=found"
    nowhere = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder.parent / 'profile'}", nowhere]
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([BROWSER, *options, address], **silent) as browser:
        try:
            assert server.reported.wait(180), "the page reported nothing"
        finally:
            browser.kill()
    server.reported.clear()
    found: dict[str, Any] = json.loads(server.reports.pop())
    return found


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_the_page_writes_what_torch_writes(site: tuple[Any, Path], tmp_path: Path) -> None:
    """The text, and for each word the times of its frames; a model that is not there is said on the page."""
    server, folder = site
    save_checkpoint(tmp_path / "model", **SHALLOW)
    export_model(tmp_path / "model", "transformers.js", folder / "models" / "mine")
    write_noise(folder / "clip.wav", 3.0, seed=3)
    said = Transcriber.from_pretrained(tmp_path / "model", device="cpu").transcribe(folder / "clip.wav")
    assert isinstance(said, Transcript)
    page = shown(server, folder, "model=mine&clip=clip.wav")
    assert page["text"] == said.text != ""
    assert [one["word"] for one in page["found"]] == said.text.split()
    starts = [one["start"] for one in page["found"]]
    assert starts == sorted(starts)
    assert all(0 <= one["start"] < one["end"] <= len(noise(3.0)) / 16_000 for one in page["found"])
    assert [one["start"] for one in page["found"]] == pytest.approx([word.start for word in said.words], abs=0.041)
    missing = shown(server, folder, "model=nobodys&clip=clip.wav")
    assert missing["status"].startswith("That did not work: ")
