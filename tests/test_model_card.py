"""The model card says what the evaluation says, and nothing else; its metadata is what the Hub wants."""

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_repositories import complaints_about
from huggingface_hub import ModelCard
from publishable_folders import FACTS, RUN, evaluation

from wav2vec2.evaluation.evaluation import Evaluation
from wav2vec2.sharing.card_metadata import is_language, metadata_problems, read_metadata
from wav2vec2.sharing.model_card import CardError, CardFacts, facts_of_log, write_card


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}')
    return tmp_path


def pretrained(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForPreTraining"]}')
    return folder


def card(folder: Path, measured: Evaluation | dict[str, Any] | None, run: dict[str, Any] | None = None) -> str:
    return write_card(folder, FACTS, measured, run).read_text(encoding="utf-8")


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of a table below its header."""
    lines = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("beam", "speakers"), [(True, True), (True, False), (False, True)])
def test_the_tables_hold_the_numbers_of_the_evaluation(folder: Path, beam: bool, speakers: bool) -> None:
    measured = evaluation(beam, speakers)
    text = card(folder, measured, RUN)
    found = rows(text, "| decoder | WER %")
    assert len(found) == len(measured.decodings) == 1 + beam
    assert [row[0] for row in found] == ["greedy", "beam search + LM"][: 1 + beam]
    for row, one in zip(found, measured.decodings, strict=True):
        words, letters = one.wer, one.cer
        errors = words.substitutions + words.deletions + words.insertions
        assert float(row[1]) == pytest.approx(100 * errors / words.reference, abs=0.005)
        assert words.interval is not None and letters.interval is not None
        assert row[2] == f"{100 * words.interval.low:.2f} to {100 * words.interval.high:.2f}"
        wider = words.speaker_interval
        assert row[3] == (f"{100 * wider.low:.2f} to {100 * wider.high:.2f}" if wider else "not measured")
        assert float(row[4]) == pytest.approx(100 * letters.rate, abs=0.005)
        assert float(row[6]) == pytest.approx(one.audio_seconds / one.seconds, rel=0.05)
    counts = rows(text, "| decoder | of |")
    expected = [
        [rate.reference, rate.hits, rate.substitutions, rate.deletions, rate.insertions]
        for one in measured.decodings
        for rate in (one.wer, one.cer)
    ]
    assert [[int(cell) for cell in row[2:]] for row in counts] == expected
    assert ("how much the error rate differs between speakers" in text) is not speakers
    assert ("Not measured" in text) and (("beam search and a language model" in text) is not beam)


def test_all_that_the_figures_depend_on_is_there(folder: Path) -> None:
    text = card(folder, evaluation(), RUN)
    for said in (
        "`tester/corpus` (config `clean`, split `test`, revision `1f2e3d`)",
        "100 utterances, 1.00 hours, 8 speakers",
        "1 more could not be read",
        "`english` (lower case, no punctuation)",
        "search=beam, beam=100, alpha=0.5, beta=1.5, language_model=3gram",
        "2000 resamples, seed 3",
        f"\n{'ab' * 32}  model.safetensors\n{'cd' * 32}  test.tsv\n```",
        "on 2026-11-21, on a processor, 2 cores, in 342 s",
        "transformers 5.23.0",
        "-6.80 points of WER, interval -9.00 to -5.00; fewer errors in 99.0 %",
        "| hours of audio | 9.500 |",
        "| seconds of audio per update | 320 |",
        "| wall time of the updates in seconds | 4321 |",
        "| seed | 7 |",
        "| commit of the code | 0123abc |",
        "| versions | torch 2.13.0, python 3.11.7 |",
        "Not recorded: started from, audio, times through the data",
        "Licence of the weights: `apache-2.0`. Languages (ISO 639): `en`.",
        "- Not for singing.",
    ):
        assert said in text
    assert "/home" not in text and "$" not in text and "None" not in text


def test_the_index_holds_the_same_numbers_for_the_hub(folder: Path) -> None:
    """Read by huggingface_hub itself."""
    measured = evaluation()
    data = ModelCard(card(folder, measured, RUN)).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "automatic-speech-recognition")
    assert (data.license, data.language, data.datasets) == ("apache-2.0", ["en"], ["tester/corpus"])
    found = {(one.metric_type, one.metric_args["decoder"].split(",")[0]): one for one in data.eval_results}
    assert len(found) == len(data.eval_results) == 4
    for one in measured.decodings:
        for metric in ("wer", "cer"):
            said = found[metric, f"search={one.name}"]
            assert said.metric_value == pytest.approx(100 * getattr(one, metric).rate, abs=5e-5)
            assert said.metric_args["normalizer"] == "english"
            place = (said.dataset_type, said.dataset_config, said.dataset_split, said.dataset_revision)
            assert place == ("tester/corpus", "clean", "test", "1f2e3d")


def test_the_json_of_an_evaluation_gives_the_same_card(folder: Path) -> None:
    measured = evaluation()
    text = card(folder, measured, RUN)
    content = json.loads(measured.to_json())
    assert card(folder, content, RUN) == text
    content["decodings"][0]["wer"]["rate"] = 0.01
    with pytest.raises(ValueError, match="is not what the counts say"):
        card(folder, content, RUN)
    assert (folder / "README.md").read_text() == text


def test_no_sum_stands_in_a_sentence(folder: Path) -> None:
    """64 letters without a space make a page wider than a telephone; in a block they can be moved, and copied."""
    text = re.sub(r"```.*?```", "", card(folder, evaluation(), RUN), flags=re.DOTALL)
    assert "safetensors" in text and re.search(r"[0-9a-f]{64}", text) is None


def test_the_package_is_not_installed_by_a_name_that_is_free(folder: Path) -> None:
    """Anyone could take it; and the version that wrote the card is told."""
    for text in (card(folder, evaluation()), card(pretrained(folder), None)):
        assert "pip install wav2vec2" not in text
        assert f"With the package that wrote this card, wav2vec2 {version('wav2vec2')} (`pip install git+" in text


def test_weights_of_a_search_are_told_without_noise(folder: Path) -> None:
    content = json.loads(evaluation().to_json())
    content["decodings"][1]["settings"]["alpha"] = 0.1 + 0.2
    text = card(folder, content)
    assert "alpha=0.3," in text and "0.30000000000000004" not in text


def test_what_was_not_measured_is_said(folder: Path) -> None:
    text = card(folder, None)
    assert "no evaluation was made" in text and "model-index" not in text and "%" not in text
    assert "Not recorded: recipe, started from" in text and "hardware" in text
    assert metadata_problems(text) == []


def test_a_pretrained_model_is_not_called_a_recogniser(folder: Path) -> None:
    text = card(pretrained(folder), None, RUN)
    assert "pipeline_tag" not in text and "Transcriber" not in text and "AutoModelForCTC" not in text
    assert "It writes no text before it is fine-tuned" in text
    assert 'Wav2Vec2Model.from_pretrained("USER/NAME")' in text


def test_pictures_are_shown_if_they_are_there(folder: Path) -> None:
    assert "![" not in card(folder, None)
    (folder / "report.png").write_bytes(b"")
    assert "![Curves of the training run](report.png)" in card(folder, None)


def test_no_link_of_a_card_leads_nowhere(folder: Path) -> None:
    (folder / "report.png").write_bytes(b"")
    targets = re.findall(r"\]\(([^)]+)\)", card(folder, evaluation(), RUN))
    assert targets
    for target in targets:
        assert target.startswith("https://") or (folder / target).is_file()


def test_a_card_that_would_be_refused_is_not_written(folder: Path) -> None:
    with pytest.raises(CardError, match="'English' is no code") as caught:
        write_card(folder, CardFacts(license="apache2", languages=["English"], datasets=["my corpus"]))
    assert "'apache2' is no identifier of the Hub; apache-2.0?" in str(caught.value)
    assert "datasets: 'my corpus'" in str(caught.value)
    assert not (folder / "README.md").exists()


def test_nothing_private_gets_into_a_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "hf_" + "q7" * 17
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(CardError, match="a path of a machine: /home/ann/recipe.yaml"):
        write_card(folder, FACTS, None, RUN | {"recipe": "/home/ann/recipe.yaml"})
    with pytest.raises(CardError, match="an access token") as caught:
        write_card(folder, FACTS, None, RUN | {"hardware": f"a machine with {token}"})
    assert token not in str(caught.value) and not (folder / "README.md").exists()


def test_figures_of_other_weights_are_no_figures_of_these(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(CardError, match=r"model\.safetensors is not the file that was measured"):
        write_card(folder, FACTS, evaluation(), RUN)
    write_card(folder, FACTS, evaluation(weights=hashlib.sha256(b"weights").hexdigest()), RUN)


def test_a_weight_of_zero_is_told(folder: Path) -> None:
    """Zero is a setting; what is absent or off is none."""
    content = json.loads(evaluation().to_json())
    content["decodings"][1]["settings"] |= {"alpha": 0.0, "hotwords": 0, "language_model": None, "lexicon": False}
    text = card(folder, content, RUN)
    assert "Decoder beam search: search=beam, beam=100, alpha=0.0, beta=1.5, hotwords=0." in text


def test_another_licence_needs_its_name(folder: Path) -> None:
    with pytest.raises(CardError, match="license_name"):
        write_card(folder, CardFacts(license="other"))
    facts = CardFacts(license="other", license_name="house", license_link="https://example.org/licence")
    assert "[house](https://example.org/licence)" in write_card(folder, facts).read_text()


def test_cards_of_ours_are_right_for_the_hub(folder: Path) -> None:
    assert complaints_about(card(folder, evaluation(), RUN)) == []
    assert metadata_problems(card(folder, evaluation(), RUN)) == []


def changed(text: str, path: str, value: Any) -> str:
    """The card with one value of its metadata changed; `None` takes it away."""
    _, block, rest = text.split("---\n", 2)
    data = yaml.safe_load(block)
    place: Any = data
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return f"---\n{yaml.safe_dump(data)}---\n{rest}"


INDEX = "model-index/0"
RESULT = f"{INDEX}/results/0"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("license", None, "license: missing"),
        ("license", ["mit"], "is no identifier"),
        ("license", "Apache-2.0", "apache-2.0?"),
        ("language", ["en", "xx"], "language: 'xx'"),
        ("language", "EN", "language: 'EN'"),
        ("language", [False], "YAML reads no as false"),
        ("library_name", None, "library_name: None"),
        ("pipeline_tag", "Speech!", "pipeline_tag: 'Speech!'"),
        ("pipline_tag", "x", "pipline_tag: no such field; pipeline_tag?"),
        ("tags", "speech", "tags: must be a list"),
        ("metrics", [1], "metrics: must be a list"),
        ("datasets", ["/home/ann/x"], "datasets: '/home/ann/x'"),
        ("base_model", "a b", "base_model: 'a b'"),
        ("model-index", {}, "model-index: must be a list"),
        (f"{INDEX}/name", None, "model-index[0]: needs a name"),
        (f"{INDEX}/results", [], "model-index[0]: needs results"),
        (f"{RESULT}/task", None, "results[0].task: must have type"),
        (f"{RESULT}/task/type", 3, "task.type: 3 must be text"),
        (f"{RESULT}/dataset/name", None, "dataset.name: missing"),
        (f"{RESULT}/dataset/spilt", "test", "dataset.spilt: no such field"),
        (f"{RESULT}/metrics", [], "metrics: must be a list of metrics"),
        (f"{RESULT}/metrics/0/value", "5 %", "value: '5 %' is no number"),
        (f"{RESULT}/metrics/0/value", float("nan"), "value: nan is no number"),
        (f"{RESULT}/metrics/1/value", None, "metrics[1].value: missing"),
        (f"{RESULT}/extra", 1, "results[0].extra: no such field"),
    ],
)
def test_every_wrong_field_is_found_alone(folder: Path, path: str, value: Any, problem: str) -> None:
    (found,) = metadata_problems(changed(card(folder, evaluation(), RUN), path, value))
    assert problem in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no metadata"),
        ("# A title\n---\nlicense: mit\n---\n", "no metadata"),
        ("---\nlicense: mit\n", "no metadata"),
        ("---\n- a\n---\n", "is a list"),
        ("---\na: [\n---\n", "not YAML"),
        ("---\nlicense: mit\nlicense: mit\n---\n", "'license' is there twice"),
        ("---\n1: mit\n---\n", "1 is no name of a field"),
        ("---\na: !!python/object/apply:os.getcwd []\n---\n", "not YAML"),
    ],
)
def test_a_block_that_cannot_be_read(text: str, problem: str) -> None:
    (found,) = metadata_problems(text)
    assert problem in found
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_metadata(text)


def test_languages() -> None:
    assert all(is_language(code) for code in ("en", "swh", "multilingual", "no", "yue"))
    assert not any(is_language(code) for code in ("EN", "en-US", "english", "e", "", "q1", None, 3, "xx"))


def test_the_facts_of_a_log(tmp_path: Path) -> None:
    lines = [
        {"kind": "run", "seed": 1, "hours": 2.0},
        {"kind": "training", "update": 10, "wall_seconds": 4.5},
        {"kind": "evaluation", "update": 10},
        {"kind": "resume", "seed": 9},
        {"kind": "training", "update": 20, "wall_seconds": 5.0},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"kind": "trai'
    (tmp_path / "log.jsonl").write_text(text)
    assert facts_of_log(tmp_path / "log.jsonl") == {"kind": "run", "seed": 1, "hours": 2.0, "wall_seconds": 9.5}


def test_the_template_that_people_see_is_the_one_that_is_used() -> None:
    root = Path(__file__).parents[1]
    used = root / "src" / "wav2vec2" / "sharing" / "model_card_template.md"
    assert (root / "model_cards" / "template.md").read_text() == used.read_text() != ""


def test_code_for_stock_is_shown_where_stock_loads_the_model(folder: Path) -> None:
    assert "AutoModelForCTC" in card(folder, None)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"ctc_head": "recurrent"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    text = card(folder, None)
    assert "AutoModelForCTC" not in text and "Transformers alone has no recurrent head" in text
    assert "Transcriber.from_pretrained" in text
