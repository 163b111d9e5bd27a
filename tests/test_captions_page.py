"""The captions page in a real browser whose microphone plays a file: words, their looks, keys alone, saved files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from driven_browser import BROWSER, Tab, browsing
from recognition_checkpoints import noise, processor, talkative_model
from served_models import Served, served
from sound_packets import words_of

from wav2vec2 import StreamingRecogniser, Transcriber
from wav2vec2.serving.pcm import ArrivingSound

LATENCY = 0.96


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(talkative_model(), processor())


@pytest.fixture
def running(transcriber: Transcriber) -> Iterator[Served]:
    with served(transcriber, latency=LATENCY) as one:
        yield one


def test_the_page_needs_nothing_from_elsewhere(running: Served) -> None:
    page = httpx.get(f"{running.address}/captions", follow_redirects=True)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    files = [name for name in named if not name.startswith("data:")] + [
        "listening.js",
        "transcript.js",
        "microphone.js",
    ]
    for name in files:
        answer = httpx.get(f"{running.address}/captions/{name}")
        assert answer.status_code == 200, name
        assert "http://" not in answer.text and "https://" not in answer.text
        assert answer.headers["content-type"].startswith("text/css" if name.endswith("css") else "text/javascript")
    for name in ("captions_page.py", "..%2fsettings.py", "nothing.js"):
        assert httpx.get(f"{running.address}/captions/{name}").status_code == 404


def test_the_page_is_open_where_keys_are_needed_but_its_sound_is_not(transcriber: Transcriber) -> None:
    with served(transcriber, api_keys=("0123456789abcdef",)) as one:
        assert httpx.get(f"{one.address}/captions/").status_code == 200
        assert httpx.get(f"{one.address}/captions/page.js").status_code == 200
        assert httpx.get(f"{one.address}/captions/live").status_code == 401


def microphone(folder: Path) -> list[str]:
    """A browser whose microphone plays noise, a silence, and noise, once."""
    samples = np.concatenate(
        [noise(3.0), np.zeros(40_000, np.float32), noise(3.0, seed=1), np.zeros(400_000, np.float32)]
    )
    soundfile.write(folder / "speech.wav", samples, 16_000, subtype="PCM_16")
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    return [*fake, f"--use-file-for-fake-audio-capture={folder / 'speech.wav'}%noloop"]


READY = "document.readyState === 'complete' && !!document.querySelector('#length-shown')?.textContent"
SHOWN = "[...document.querySelectorAll('#captions p > span:first-child')].map((one) => one.textContent)"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_words_of_the_microphone_appear_and_stay(
    running: Served, transcriber: Transcriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By keys alone: what is final is what the recogniser says of the sound that came, and was never changed."""
    came: list[tuple[int, bytes]] = []
    take = ArrivingSound.take

    def logged(sound: ArrivingSound, packet: bytes, last: bool = False) -> Any:
        came.append((id(sound), packet))
        return take(sound, packet, last)

    monkeypatch.setattr(ArrivingSound, "take", logged)
    with browsing(f"{running.address}/captions/", tmp_path, *microphone(tmp_path)) as tab:
        tab.wait(READY)
        focus(tab, "listen")
        tab.press("Enter", 13)
        tab.wait("document.querySelector('.open')?.textContent.length > 0")
        looks = "((one) => [one.color, one.fontSize, one.fontStyle, one.textDecorationLine])"
        final, open = (
            tab.run(f"{looks}(getComputedStyle(document.querySelector('#captions span{which}')))")
            for which in (":first-child", ".open")
        )
        assert final[1:3] == open[1:3] and final[0] != open[0] and (final[3], open[3]) == ("none", "underline")
        seen: list[list[str]] = []
        while len(tab.run(SHOWN)) < 2 or not tab.run(SHOWN)[-1]:
            seen.append(tab.run(SHOWN))
        tab.wait("document.querySelectorAll('#captions .open').length === 0")
        gap = "parseFloat(getComputedStyle(document.querySelectorAll('#captions p')[1]).marginTop)"
        assert tab.run("document.querySelectorAll('#captions p')[1].className") == "after-pause" and tab.run(gap) > 20
        focus(tab, "listen")
        tab.press("Enter", 13)
        tab.wait("document.querySelector('#status').textContent.startsWith('Paused')")
        tab.wait("document.querySelector('#listen').textContent === 'Go on'")
        seen.append(tab.run(SHOWN))
        spoken = tab.run("document.querySelector('#spoken').textContent")
        rate = tab.run("new AudioContext().sampleRate")
    for before, after in zip(seen, seen[1:], strict=False):
        assert all(later.startswith(earlier) for earlier, later in zip(before, after, strict=False))
    assert len({sound for sound, _ in came}) == 1
    recogniser = StreamingRecogniser(transcriber.model, transcriber.processor, latency=LATENCY)
    stream, sound = recogniser.open(), ArrivingSound(rate, 16_000)
    updates = [stream.feed(take(sound, packet)) for _, packet in came]
    words = [word.text for word in words_of([*updates, stream.finish()])]
    assert " ".join(seen[-1]).split() == words and len(words) > 8
    assert spoken.replace(" ", "") == "".join(words)


def focus(tab: Tab, name: str) -> None:
    """Go from control to control by the key Tab until it is the one that is meant."""
    for _ in range(20):
        if tab.run("document.activeElement.id") == name:
            return
        tab.press("Tab", 9)
    raise AssertionError(f"no key leads to {name}")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_settings_stay_and_files_hold_what_was_said(running: Served, tmp_path: Path) -> None:
    with browsing(f"{running.address}/captions/", tmp_path) as tab:
        tab.wait(READY)
        before = tab.run("parseFloat(getComputedStyle(document.querySelector('main')).fontSize)")
        focus(tab, "larger")
        tab.press("Enter", 13)
        tab.run("(theme.value = 'light', theme.dispatchEvent(new Event('change')))")
        tab.run(
            "const range = document.querySelector('#length'); range.value = 20; range.dispatchEvent(new Event('input'))"
        )
        tab.ask("Page.reload")
        tab.wait(f"{READY} && document.documentElement.dataset.theme === 'light'")
        look = tab.run("getComputedStyle(document.querySelector('main')).fontSize")
        assert float(look.removesuffix("px")) > before
        assert tab.run("document.querySelector('#length-shown').textContent") == "20"
        script = """import('/captions/transcript.js').then(({ Transcript }) => {
            const made = new Transcript(document.querySelector('#captions'), document.querySelector('#spoken'));
            const word = (text, start) => ({ word: text, start, end: start + 0.5 });
            made.add({ ended: [], words: [word('one', 0)], partial: 'tw' }, 10);
            const first = document.querySelector('#captions p span').firstChild;
            made.add({ ended: [[word('one', 0), word('<two>', 1)]], words: [word('three', 5)], partial: 'fo' }, 10);
            return [made.text(), made.vtt(), document.querySelector('#captions').innerText,
                    first.isConnected && first.data === 'one'];
        })"""
        text, vtt, shown, same = tab.run(script)
    assert text == "one <two>\nthree\n"
    assert vtt == "WEBVTT\n\n00:00:10.000 --> 00:00:11.500\none &lt;two&gt;\n\n00:00:15.000 --> 00:00:15.500\nthree\n"
    assert shown.split() == ["one", "<two>", "three", "fo"] and same


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_the_newest_words_stay_in_sight_unless_somebody_reads_above(running: Served, tmp_path: Path) -> None:
    """Also where settings that are opened, or a telephone that is turned, leave less room for the text."""
    below = "((one) => Math.round(one.scrollHeight - one.scrollTop - one.clientHeight))(document.querySelector('main'))"
    with browsing(f"{running.address}/captions/", tmp_path) as tab:
        tab.wait(READY)
        tab.show(390, 844, mobile=True)
        tab.run("""import('/captions/transcript.js').then(({ Transcript }) => {
            window.made = new Transcript(document.querySelector('#captions'), document.querySelector('#spoken'));
            window.say = (count) => made.add({ ended: [Array.from({ length: count }, (_, number) =>
                ({ word: 'words', start: number, end: number + 0.5 }))], words: [], partial: '' }, 0);
            say(20);
        })""")
        assert tab.run("document.querySelector('main').scrollTop") == 0  # there is room for all
        tab.run("document.querySelector('#settings').open = true")
        tab.wait(f"document.querySelector('main').scrollTop > 0 && {below} < 8")
        tab.show(844, 390, mobile=True)
        tab.run("say(60)")
        tab.wait(f"{below} < 8")
        tab.run("document.querySelector('main').scrollTop = 0")
        tab.wait("made.follows === false")
        tab.run("say(20)")
        tab.show(390, 844, mobile=True)
        tab.wait("innerHeight === 844")
        assert tab.run(f"new Promise(requestAnimationFrame).then(() => {below})") > 100
