"""What is written is read back by small readers of each format: every word once, in order, times that never go back."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textgrids import Read, read_textgrid

from wav2vec2.alignment.aligned_words import AlignedWord
from wav2vec2.inference.subtitle_formats import LINE_LENGTH, LINES, captions, render

LETTERS = st.sampled_from(list("aZé字ß\"&<>;.!?'|-ا\\ \n"))


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[AlignedWord], float]:
    """Words in order, some of no length, and a duration that holds them."""
    words, clock = [], 0.0
    for _ in range(draw(st.integers(0, 25))):
        start = clock + draw(st.sampled_from([0.0, 0.0, 0.0003, 0.1, 3.0]))
        clock = start + draw(st.sampled_from([0.0, 0.0004, 0.02, 0.31, 5.0]))
        text = draw(st.text(LETTERS, min_size=1, max_size=12).filter(lambda text: bool(text.split())))
        words.append(AlignedWord(text, start, clock, draw(st.floats(0, 1)), draw(st.booleans())))
    return words, clock + draw(st.sampled_from([0.0, 1.0]))


def joined(words: list[AlignedWord]) -> str:
    return " ".join(" ".join(word.text.split()) for word in words)


def check_order(read: Read, duration: float, count: int, gap: float = 0.0) -> None:
    flat = [time for start, end, _ in read for time in (start, end)]
    assert flat == sorted(flat)
    assert all(end - start >= gap - 1e-9 for start, end, _ in read)
    assert not flat or (flat[0] >= 0 and flat[-1] <= max(duration, count / 1000) + 0.0006)


def read_ctm(text: str) -> list[tuple[str, float, float, str, float]]:
    rows = [line.split() for line in text.splitlines()]
    assert all(len(row) == 6 and row[1] == "1" for row in rows)
    return [(row[0], float(row[2]), float(row[2]) + float(row[3]), row[4], float(row[5])) for row in rows]


def seconds(clock: str, point: str) -> float:
    hours, minutes, rest = clock.split(":")
    whole, part = rest.split(point)
    assert len(part) == 3
    assert int(minutes) < 60
    return int(hours) * 3600 + int(minutes) * 60 + int(whole) + int(part) / 1000


def read_captions(blocks: list[str], point: str) -> Read:
    found = []
    for block in blocks:
        times, *lines = block.strip("\n").split("\n")
        start, end = times.split(" --> ")
        assert 1 <= len(lines) <= LINES
        found.append((seconds(start, point), seconds(end, point), "\n".join(lines)))
    return found


@given(recording=recordings())
@settings(deadline=None, max_examples=60)
def test_json_holds_everything(recording: tuple[list[AlignedWord], float]) -> None:
    words, duration = recording
    read: dict[str, Any] = json.loads(render(words, "json", "a clip", duration))
    assert read["recording"] == "a clip"
    assert read["duration"] == pytest.approx(duration, abs=1e-4)
    for word, row in zip(words, read["words"], strict=True):
        assert (row["text"], row["aligned"]) == (word.text, word.aligned)
        assert (row["start"], row["end"]) == pytest.approx((word.start, word.end), abs=1e-4)
    flat = [time for row in read["words"] for time in (row["start"], row["end"])]
    assert flat == sorted(flat)


@given(recording=recordings())
@settings(deadline=None, max_examples=60)
def test_textgrid_tiles_the_recording(recording: tuple[list[AlignedWord], float]) -> None:
    words, duration = recording
    total, tiers = read_textgrid(render(words, "textgrid", "a", duration))
    rows = tiers["words"]
    assert [text for _, _, text in rows if text] == [word.text for word in words]
    assert (rows[0][0], rows[-1][1]) == (0.0, total)
    assert all(before[1] == after[0] for before, after in zip(rows, rows[1:], strict=False))
    assert all(start < end for start, end, _ in rows)  # Praat refuses empty intervals
    assert [row[:2] for row in tiers["confidence"]] == [row[:2] for row in rows]
    said = [text for _, _, text in tiers["confidence"] if text]
    assert [text == "not aligned" for text in said] == [not word.aligned for word in words]
    assert total >= duration - 0.0006


@given(recording=recordings())
@settings(deadline=None, max_examples=60)
def test_ctm_has_six_fields(recording: tuple[list[AlignedWord], float]) -> None:
    words, duration = recording
    rows = read_ctm(render(words, "ctm", "my clip", duration))
    assert [row[3] for row in rows] == ["_".join(word.text.split()) for word in words]
    check_order([(row[1], round(row[2], 3), row[3]) for row in rows], duration, len(words))
    for word, (name, start, end, _, confidence) in zip(words, rows, strict=True):
        assert name == "my_clip"
        assert (start, end, confidence) == pytest.approx((word.start, word.end, word.confidence), abs=0.0011)


@given(recording=recordings())
@settings(deadline=None, max_examples=60)
def test_srt_and_vtt_hold_every_word(recording: tuple[list[AlignedWord], float]) -> None:
    words, duration = recording
    srt = render(words, "srt", "a", duration)
    blocks = srt.split("\n\n") if srt else []
    assert [block.lstrip("\n").split("\n")[0] for block in blocks] == [str(n + 1) for n in range(len(blocks))]
    from_srt = read_captions([block.lstrip("\n").split("\n", 1)[1] for block in blocks], ",")
    head, *blocks = render(words, "vtt", "a", duration).rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    from_vtt = read_captions(blocks, ".")
    assert all("<" not in text and ">" not in text for _, _, text in from_vtt)
    for read in (from_srt, from_vtt):
        check_order(read, duration, len(words), gap=0.001)
        assert all(len(line) <= LINE_LENGTH for _, _, text in read for line in plain(text).split("\n"))
    assert plain(" ".join(text for _, _, text in from_vtt)).split() == joined(words).split()
    assert " ".join(text for _, _, text in from_srt).split() == joined(words).replace("-->", "→").split()


def plain(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_captions_break_where_a_reader_would() -> None:
    said = [AlignedWord(text, start, start + 0.2, 1.0, True) for text, start in
            (("Good", 0.0), ("morning.", 0.3), ("How", 0.6), ("are", 0.9), ("you", 3.0))]  # fmt: skip
    assert [caption.lines for caption in captions(said, 4.0)] == [("Good morning.",), ("How are",), ("you",)]
    assert [(caption.start, caption.end) for caption in captions(said, 4.0)] == [(0, 500), (600, 1100), (3000, 3200)]


def test_srt_of_three_hours() -> None:
    word = AlignedWord("end", 3 * 3600 + 62.5, 3 * 3600 + 62.75, 1.0, True)
    assert render([word], "srt", "a", 3 * 3600 + 63.0) == "1\n03:01:02,500 --> 03:01:02,750\nend\n"


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ValueError, match="format 'pdf': must be one of json"):
        render([], "pdf", "a", 1.0)
