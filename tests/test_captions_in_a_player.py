"""Chromium's own reader of WebVTT takes the captions of sounds and words as they were meant, one at a time."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from driven_browser import BROWSER, browsing
from recognition_checkpoints import write_noise

from wav2vec2.inference.event_captions import SoundEvent, with_sounds
from wav2vec2.inference.subtitle_formats import Caption, captions_as

PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:0;background:#345">
<video controls muted width="640" height="360">
<track src="talk.vtt" kind="captions" srclang="en" default></video>
<script>fetch("talk.wav").then(found => found.blob()).then(whole => { // the server gives no parts to seek in
document.querySelector("video").src = URL.createObjectURL(whole) })</script>"""

CUES = "[...document.querySelector('video').textTracks[0].cues || []].map(c => [c.startTime, c.endTime, c.text])"
#: What is shown at a time, once the player is there.
AT = """new Promise(done => {{ const video = document.querySelector('video'); video.addEventListener('seeked', () =>
setTimeout(() => done([...video.textTracks[0].activeCues].map(c => c.getCueAsHTML().textContent)), 100),
{{once: true}});
video.currentTime = {}; }})"""


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_player_reads_and_shows_them(tmp_path: Path) -> None:
    speech = [Caption(2000, 4000, ("Thank you <all>", "& good night")), Caption(7000, 8000, ("bye",))]
    sounds = [
        SoundEvent("music", 0.0, 2.6, 0.9, "[music]"),
        SoundEvent("applause", 3.5, 6.5, 0.9, "[applause]"),
        SoundEvent("beep", 9.0, 9.1, 0.9, "[beep]"),
    ]
    captions = with_sounds(speech, sounds, 10.0)
    site = tmp_path / "site"
    write_noise(site / "talk.wav", 10.0)
    (site / "talk.vtt").write_text(captions_as(captions, "vtt"), encoding="utf-8")
    (site / "page.html").write_text(PAGE, encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browsing(f"http://127.0.0.1:{server.server_port}/page.html", tmp_path) as tab:
            tab.wait(f"document.querySelector('video')?.readyState > 1 && {CUES}.length > 0")
            cues = tab.run(CUES)
            escaped = captions_as(captions, "vtt").split("\n\n")[1:]
            assert [tuple(cue) for cue in cues] == [
                (one.start / 1000, one.end / 1000, block.partition("\n")[2].rstrip("\n"))
                for one, block in zip(captions, escaped, strict=True)
            ]
            shown = {second: tab.run(AT.format(second)) for second in (1.0, 3.0, 5.0, 7.5, 8.5, 9.5)}
        server.shutdown()
    assert shown[1.0] == ["[music]"] and shown[5.0] == ["[applause]"] and shown[9.5] == ["[beep]"]
    assert shown[7.5] == ["bye"] and shown[8.5] == []
    assert shown[3.0] == ["[applause] Thank you <all>\n& good night"]
