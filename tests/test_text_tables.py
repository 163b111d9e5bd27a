"""Files of references and hypotheses: their forms, their faults, and `wav2vec2 score` on them."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from wav2vec2.command_line.app import app
from wav2vec2.evaluation.text_tables import TextTableError, paired, read_texts

RIGHT = {"u1": "a cat (sat)", "u2": "", "u3": "two  words"}
FORMS = {
    "tab": "u1\ta cat (sat)\nu2\t\nu3\ttwo  words\n",
    "tab without the TAB of an empty text": "\ufeffu1\ta cat (sat)\r\nu2\r\nu3\ttwo  words\r\n\r\n",
    "trn": "a cat (sat) (u1)\n(u2)\ntwo  words (u3)\n",
    "manifest": "path\tid\ttranscript\na.wav\tu1\ta cat (sat)\nb.wav\tu2\t\nc.wav\tu3\ttwo  words\n",
    "id and text": "id\ttext\nu1\ta cat (sat)\nu2\t\nu3\ttwo  words\n",
    "as of Common Voice": "Sentence\tPath\tage\na cat (sat)\tu1\t9\n\tu2\t9\ntwo  words\tu3\t\n",
    "an id before a path": "file\tutterance\ttranscription\n1.wav\tu1\ta cat (sat)\nu2\t\t\n3.wav\tu3\ttwo  words\n",
    "manifest without ids": "path\ttranscript\nu1\ta cat (sat)\nu2\t\nu3\ttwo  words\n",
}


def written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_gives_the_same_texts(form: str, tmp_path: Path) -> None:
    assert read_texts(written(tmp_path / "texts", FORMS[form])).texts == RIGHT


def test_a_manifest_tells_the_speakers(tmp_path: Path) -> None:
    content = "path\tspeaker\ttranscript\na.wav\tann\tx\nb.wav\t\ty\n"
    assert read_texts(written(tmp_path / "texts", content)).speakers == {"a.wav": "ann"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("u1\ta\nu2\tb\nu1\tc\nu2\td\n", "2 ids stand more than once: u1, u2"),
        ("just some text\n", "neither `id TAB text`"),
        ("a text (u1)\na text(u2)\n", "neither `id TAB text`, nor `text (id)`"),
        ("a text (u1))\n", "neither `id TAB text`"),
        ("a text ()\n", "neither `id TAB text`"),
        ("a text (u 1)\n", "neither `id TAB text`"),
        ("a text)\n", "neither `id TAB text`"),
        ("u1\ta\nu2 b\n", "a line without TAB between id and text: 'u2 b'"),
        ("\ta\n", "a line without an id"),
        ("path\ttranscript\na.wav\n", "1 columns, but the header has 2"),
        ("path\ttranscript\n \ta\n", "a line without an id"),
        ("u1\ta b\tann\nu2\tc\tbob\n", "more than two columns, and no header that says which is the text: 'u1\\ta b"),
        ("id\tcontent\nu1\ta\n", "may be a header or an utterance: 'id\\tcontent'; name the columns"),
        ("who\ttext\nu1\ta\n", "may be a header or an utterance: 'who\\ttext'"),
        ("id\treference\thypothesis\nu1\ta\tb\n", "several columns of texts (reference, hypothesis): leave one"),
        ("id\ttext\tid\nu1\ta\tb\n", "a column stands twice in the header"),
    ],
)
def test_faults_are_named(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TextTableError) as caught:
        read_texts(written(tmp_path / "texts", content))
    assert message in str(caught.value)


def test_text_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "texts").write_bytes(b"u1\t\xff\xfe\n")
    with pytest.raises(TextTableError, match="is not UTF-8"):
        read_texts(tmp_path / "texts")


@given(content=st.binary(max_size=60) | st.text("ab() \t\r\n\ufeffé", max_size=40).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_texts_or_a_named_fault(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        found = read_texts(path)
    except TextTableError as error:
        assert "any" in str(error)
    else:
        assert all(name == name.strip() != "" for name in found.texts)


@given(texts=st.dictionaries(st.text("ab-1", min_size=1, max_size=4), st.text("xyz ()", max_size=9).map(str.strip)))
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """In either form, texts with brackets too."""
    path = tmp_path_factory.getbasetemp() / "written"
    path.write_text("".join(f"{name}\t{text}\n" for name, text in texts.items()), "utf-8")
    assert read_texts(path).texts == texts
    path.write_text("".join(f"{text} ({name})\n" for name, text in texts.items()), "utf-8")
    assert read_texts(path).texts == texts


def test_ids_are_matched_and_what_has_no_partner_is_listed() -> None:
    assert paired({"b": "1", "a": "2"}, {"a": "3", "b": "4"}) == (["b", "a"], ["1", "2"], ["4", "3"])
    with pytest.raises(TextTableError) as caught:
        paired({"a": "", "b": "", "c": ""}, {"b": "", "x": ""})
    assert str(caught.value) == "2 references have no hypothesis: a, c; 1 hypotheses have no reference: x"
    with pytest.raises(TextTableError, match="u19 and 5 more"):
        paired({f"u{number}": "" for number in range(25)}, {})
    with pytest.raises(TextTableError, match="no texts"):
        paired({}, {})


def run(*arguments: object) -> Result:
    result: Result = CliRunner().invoke(app, ["score", *map(str, arguments)])
    return result


def test_the_command_on_two_forms(tmp_path: Path) -> None:
    """Hand-counted: u1 has one substitution, u2 an insertion, u3 a deletion; the speakers are known."""
    manifest = "path\tid\tspeaker\ttranscript\n1\tu1\ta\tA cat, sat\n2\tu2\tb\t\n3\tu3\tb\ttwo words\n"
    references = written(tmp_path / "ref", manifest)
    hypotheses = written(tmp_path / "hyp", "two (u3)\na bat sat (u1)\nhm (u2)\n")
    table = tmp_path / "table.tsv"
    result = run(references, hypotheses, "--normalizer", "basic", "--json", "--table", table)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["utterances"], found["normalizer"]) == (3, "basic")
    wer = found["wer"]
    assert [wer[kind] for kind in ("hits", "substitutions", "deletions", "insertions", "reference")] == [3, 1, 1, 1, 5]
    assert wer["rate"] == 3 / 5
    assert wer["speaker_interval"]["low"] <= wer["rate"] <= wer["speaker_interval"]["high"]
    rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()]
    assert rows[0][:7] == ["id", "reference", "hypothesis", "words", *(f"words_{x}" for x in
                           ("substituted", "deleted", "inserted"))]  # fmt: skip
    assert rows[1][:7] == ["u1", "A cat, sat", "a bat sat", "3", "1", "0", "0"]
    assert rows[2][:7] == ["u2", "", "hm", "0", "0", "0", "1"]
    plain = run(references, hypotheses).stdout
    assert "normaliser none" in plain
    assert "WER 80.0000%" in plain  # "A" and "cat," are other words now


@pytest.mark.parametrize(
    "header", ["id\ttext", "path\ttext", "file\tsentence", "utterance\ttranscription", "Audio\tTranscript", None]
)
def test_a_header_is_no_utterance(header: str | None, tmp_path: Path) -> None:
    """With and without one: the same two utterances, four words, one of them wrong. On one side alone, too."""
    first = "" if header is None else f"{header}\n"
    references = written(tmp_path / "ref", f"{first}a\tone two three\nb\tfoo\n")
    for other in (first, ""):
        found = json.loads(
            run(references, written(tmp_path / "hyp", f"{other}a\tone two three\nb\tfox\n"), "--json").stdout
        )
        assert (found["utterances"], found["wer"]["rate"], found["wer"]["reference"]) == (2, 0.25, 4)


def test_a_header_of_names_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """The same two words first on both sides, unlike all that follows; a short utterance that is right is none."""
    references = written(tmp_path / "ref", "recording\tspoken\nu1\tone two\nu2\tfoo\n")
    result = run(references, written(tmp_path / "hyp", "recording\tspoken\nu1\tone two\nu2\tfox\n"))
    assert result.exit_code == 1 and "both files begin with 'recording TAB spoken'" in result.stderr
    assert "name the columns in the first line, `id` and `text`" in result.stderr
    for content in ("u0\ttext\nu1\tyes\n", "a\tyes\nb\tno\n", "ann/1.wav\tno\nann/2.wav\tno\n"):
        same = written(tmp_path / "same", content)
        assert json.loads(run(same, same, "--json").stdout)["utterances"] == 2


def test_the_command_refuses_what_does_not_match(tmp_path: Path) -> None:
    references = written(tmp_path / "ref", "u1\ta\nu2\tb\n")
    result = run(references, written(tmp_path / "hyp", "u1\ta\nu3\tb\n"))
    assert result.exit_code == 1
    assert "1 references have no hypothesis: u2" in result.stderr
    assert "1 hypotheses have no reference: u3" in result.stderr
    assert "there are no texts to score" in run(written(tmp_path / "none", ""), tmp_path / "none").stderr
    result = run(references, references, "--normalizer", "other")
    assert "must be one of none, casefold, basic" in result.stderr
