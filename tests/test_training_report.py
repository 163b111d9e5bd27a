"""The report of a run: it holds the figures, asks for no other file, tells no paths, and survives every partial log."""

import base64
import json
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from logged_runs import finetuning_run, pretraining_run
from typer.testing import CliRunner

pytest.importorskip("matplotlib")

from wav2vec2.training.progress import report_charts as charts
from wav2vec2.training.progress.report import ReportError, write_report
from wav2vec2.training.progress.run_history import perplexities, read_history


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("someones-name")
    pretraining_run(folder, evaluate_every=1000, every=40)
    (folder / "unreadable.tsv").write_text("id\treason\n/home/ann/a.wav\tis <empty>\n", encoding="utf-8")
    write_report(folder)
    return folder


def html_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def titles(html: str) -> list[str]:
    return re.findall(r'<img alt="([^"]+)"', html)


def png_sizes(html: str) -> list[tuple[int, int]]:
    pictures = [base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)]
    assert all(picture.startswith(b"\x89PNG\r\n\x1a\n") for picture in pictures)
    return [struct.unpack(">II", picture[16:24]) for picture in pictures]


@pytest.mark.slow
def test_the_page_asks_for_nothing_else(pretrained: Path) -> None:
    html = html_of(pretrained)
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert re.findall(r"https?:|//|@import|url\(|<script|<link|<iframe|srcset", without_pictures) == []
    assert set(re.findall(r'src="([^"]{0,22})', html)) == {"data:image/png;base64,"}
    assert len(png_sizes(html)) == len(titles(html)) == 12
    assert all(width == 814 and height == 550 for width, height in png_sizes(html))


@pytest.mark.slow
def test_the_letters_of_a_chart_can_be_read_on_a_telephone(pretrained: Path) -> None:
    """390 pixels wide, without the margins: letters of 10 pixels at least, from the size in inches of each picture."""
    html = (pretrained / "report.html").read_text("utf-8")
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    assert len(pictures) == 12
    for found in pictures:
        picture = base64.b64decode(found)
        place = picture.index(b"pHYs") + 4
        inches = struct.unpack(">I", picture[16:20])[0] / (struct.unpack(">I", picture[place : place + 4])[0] * 0.0254)
        for size in (charts.STYLE["font.size"], charts.STYLE["legend.fontsize"]):
            assert size / 72 / inches * (390 - 2 * 16) >= 10


@pytest.mark.slow
def test_the_page_holds_the_figures_of_the_log(pretrained: Path) -> None:
    html = html_of(pretrained)
    evaluations = [line for line in read_history(pretrained).evaluations]
    assert [line["update"] for line in evaluations] == [1000, 2000, 3000, 4000]
    for line in evaluations:
        row = re.search(rf"<tr><th>{line['update']:,}</th>(.*?)</tr>", html)
        assert row is not None
        assert f"<td>{line['bits']:.3f}</td><td>{line['accuracy']:.2%}</td>" in row[1]
    for words in ("wav2vec 2.0 pretraining: tiny_cpu", "4,000 of 4,000 updates: finished", "3,012,345", "2.13.0"):
        assert words in html
    assert f"<dd>{evaluations[-1]['accuracy']:.1%}</dd>" in html
    assert "<dt>skipped recordings</dt><dd>20</dd>" in html  # one line in five counts one


@pytest.mark.slow
def test_no_path_and_no_name_of_a_user_is_told(pretrained: Path) -> None:
    html = html_of(pretrained)
    assert "someones-name" not in html
    assert "/home/ann" not in html
    assert "<tr><th>a.wav</th><td>is &lt;empty&gt;</td></tr>" in html


@pytest.mark.slow
def test_the_overview_is_a_picture_without_metadata(pretrained: Path) -> None:
    picture = (pretrained / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24])[0] == round(3 * 4.6 * 110)
    assert b"tEXt" not in picture


@pytest.mark.slow
def test_finetuning_has_its_own_charts_and_texts(tmp_path: Path) -> None:
    finetuning_run(tmp_path)
    write_report(tmp_path)
    html = html_of(tmp_path)
    assert titles(html) == ["Loss", "Errors", "Blank share", "Gradient norm"]
    assert "wav2vec 2.0 fine-tuning: base_10min" in html
    assert "<tr><th>clip-2</th><td>&lt;one&gt; two</td><td>one &lt;two</td></tr>" in html


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([{"kind": "run", "seed": 1}], []),
        ([{"kind": "training", "update": 1, "loss": 3.0}], ["Loss"]),
        ([{"kind": "training", "update": 1, "bits": None, "contrastive": None, "gradient_norm": None}], []),
        ([{"kind": "evaluation", "update": 5, "wer": 1.0}], ["Errors"]),
        ([{"kind": "training", "update": 1, "gradient_norm": 0.0}, {"kind": "training"}, {}], ["Gradient norm"]),
        ([{"kind": "training", "update": 1, "code_perplexity": [3.0, None]}], ["Code perplexity"]),
        (
            [{"kind": "training", "update": u, "bits": 1.0, "loss": 1.0} for u in (2, 1)],
            ["Contrastive loss (bits)"],
        ),
    ],
)
def test_any_partial_log_gives_a_report(tmp_path: Path, lines: list[dict[str, object]], expected: list[str]) -> None:
    """Nothing but a header, one line, nothing finite, no training, a line cut short."""
    text = "\n".join(map(json.dumps, lines)) + '\n{"kind": "training", "upda'
    (tmp_path / "log.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "codes.json").write_text('{"counts": [[1, 2], [3]]}', encoding="utf-8")  # damaged: no heat map
    html, png = write_report(tmp_path)
    assert titles(html.read_text(encoding="utf-8")) == expected
    assert png.stat().st_size > 1000


@pytest.mark.parametrize("content", [None, "", "no json\n"])
def test_a_folder_without_a_log_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "log.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ReportError, match="log.jsonl"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_run_is_read_back_as_it_was_logged(tmp_path: Path) -> None:
    logged = pretraining_run(tmp_path, last=300)
    run = read_history(tmp_path)
    accuracy = run.series("accuracy")
    assert accuracy.updates.tolist() == list(range(10, 301, 10))
    assert accuracy.values.tolist() == [line["accuracy"] for line in logged]
    assert run.series("code_perplexity", group=1).values.tolist() == [line["code_perplexity"][1] for line in logged]
    assert run.num_groups("code_perplexity") == 2
    assert (run.updates, run.is_pretraining, run.is_base) == (300, True, False)


@pytest.mark.slow
def test_whoever_goes_on_may_ask_for_more_updates(tmp_path: Path) -> None:
    """The report is of what was asked for last. The first line of a start waits for workers, and is not the speed."""
    logged = pretraining_run(tmp_path, last=4000)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as stream:
        for line in ({"kind": "resume", "updates": 5000}, {"kind": "training", "update": 4010, "peak_fraction": 0.0}):
            stream.write(json.dumps(line) + "\n")
    run = read_history(tmp_path)
    assert (run.facts["updates"], run.facts["parameters"], run.updates) == (5000, 3_012_345, 4010)
    assert run.typical("peak_fraction") == np.median([*(line["peak_fraction"] for line in logged), 0.0]) > 0
    assert run.typical("no such figure") is None
    write_report(tmp_path)
    assert "4,010 of 5,000 updates: not finished" in html_of(tmp_path)


@pytest.mark.slow
def test_a_stopped_run_counts_up_to_its_checkpoint_and_its_hours_can_be_read(tmp_path: Path) -> None:
    """It was saved after the last line of its log; of its hours nobody wants the seconds."""
    pretraining_run(tmp_path, last=70, updates=150, hours=0.739003)
    (tmp_path / "checkpoints" / "update-00000074").mkdir(parents=True)
    write_report(tmp_path)
    html = html_of(tmp_path)
    assert "74 of 150 updates: not finished" in html
    assert "<tr><th>hours</th><td>0.739</td></tr>" in html


def published_line(run_folder: Path) -> list[float]:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    charts.draw_accuracy(axes, read_history(run_folder))
    lines = [line for line in axes.lines if str(line.get_label()).startswith("published")]
    return [] if not lines else np.asarray(lines[0].get_ydata()).tolist()


def test_the_published_curve_stands_beside_models_of_the_size_of_base_alone(tmp_path: Path) -> None:
    """The figures of the table of DeepLearningExamples, every 50,000 updates."""
    pretraining_run(tmp_path / "tiny", last=50)
    pretraining_run(tmp_path / "base", last=50, parameters=95_044_608)
    pretraining_run(tmp_path / "large", last=50, parameters=317_000_000)
    assert published_line(tmp_path / "base") == [0.491, 0.537, 0.564, 0.580, 0.599, 0.610, 0.619, 0.629]
    assert published_line(tmp_path / "tiny") == published_line(tmp_path / "large") == []


def test_the_moving_mean_is_the_slow_one() -> None:
    values = np.random.default_rng(0).normal(size=50)
    slow = [np.mean(values[max(i - 3, 0) : i + 4]) for i in range(50)]
    np.testing.assert_allclose(charts.smoothed(values, 6), slow, rtol=1e-12)


def test_perplexity_of_counts() -> None:
    counts = np.array([[5.0, 5.0, 5.0, 5.0], [9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(perplexities(counts), [4.0, 1.0, 1.0, np.exp(entropy)])


@pytest.mark.slow
def test_the_command_makes_the_report_or_says_what_is_missing(pretrained: Path, tmp_path: Path) -> None:
    import typer

    from wav2vec2.command_line.report import report

    app = typer.Typer()
    app.command()(report)
    result = CliRunner().invoke(app, [str(pretrained)])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(pretrained / "report.html"), str(pretrained / "report.png")]
    refused = CliRunner().invoke(app, [str(tmp_path)])
    assert refused.exit_code == 1
    assert "report: " in refused.stderr
    assert "give the output folder of a run" in refused.stderr


@pytest.mark.slow
def test_without_matplotlib_the_extra_is_named(pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "wav2vec2\[train\]"'):
        write_report(pretrained)
