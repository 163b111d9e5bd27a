"""The metric scripts: `evaluate` loads them without a network, and they give jiwer's numbers."""

import os
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest

from wav2vec2.metrics import METRICS, metric_path

REFERENCES = ["the cat sat on the mat", "yes", "", "a  b"]
PREDICTIONS = ["a cat sat on mat", "yes yes", "hm", "a b"]


@pytest.mark.slow
def test_evaluate_loads_them_offline(tmp_path: Path) -> None:
    """In a process of its own, because `evaluate` decides at import whether there is a network."""
    pytest.importorskip("evaluate")
    code = (
        "import sys, evaluate\n"
        f"for path in sys.argv[1:]:\n"
        f"    metric = evaluate.load(path)\n"
        f"    print(metric.compute(predictions={PREDICTIONS!r}, references={REFERENCES!r}),"
        " metric.compute(predictions=[''], references=['']))\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, *(str(metric_path(name)) for name in METRICS)]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert answer.returncode == 0, answer.stderr
    (wer, empty), (cer, also_empty) = ((float(one) for one in line.split()) for line in answer.stdout.splitlines())
    assert wer == pytest.approx(jiwer.wer(REFERENCES, PREDICTIONS), abs=1e-12)
    assert cer == pytest.approx(jiwer.cer([" ".join(text.split()) for text in REFERENCES], PREDICTIONS), abs=1e-12)
    assert (empty, also_empty) == (0.0, 0.0)


@pytest.mark.parametrize("name", METRICS)
def test_each_import_has_its_line(name: str) -> None:
    """`evaluate` reads them with a regular expression that takes `import a, b` for a package called "a,"."""
    imports = [line for line in metric_path(name).read_text("utf-8").splitlines() if line.startswith("import ")]
    assert imports == ["import datasets", "import evaluate", "import jiwer"]


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of wer, cer"):
        metric_path("bleu")
