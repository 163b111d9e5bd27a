"""Run in a process of its own, whose environment names the Hub: what stock Transformers makes of a served model.

Arguments: the name on the Hub, a folder with `speech.wav`, and the file for the answers.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import soundfile
import torch
import transformers
from huggingface_hub import ModelCard


def logits_and_texts(name: str, audio: Path) -> dict[str, Any]:
    """By Auto classes and by a pipeline that is given a name alone."""
    samples, rate = soundfile.read(audio, dtype="float32")
    processor = transformers.AutoProcessor.from_pretrained(name)
    model = transformers.AutoModelForCTC.from_pretrained(name).eval()
    with torch.inference_mode():
        logits = model(**processor(samples, sampling_rate=rate, return_tensors="pt")).logits
    recogniser = transformers.pipeline(model=name)
    return {
        "packages": sorted({type(one).__module__.split(".")[0] for one in (model, processor, recogniser.model)}),
        "task": recogniser.task,
        "logits": logits.tolist(),
        "text": processor.batch_decode(logits.argmax(-1))[0],
        "pipeline_text": recogniser({"raw": samples, "sampling_rate": rate})["text"],
    }


def served_metric() -> float | None:
    """A metric that lies on the Hub as a space; None where a library for it is missing."""
    try:
        import evaluate
        import jiwer  # noqa: F401
    except ImportError:
        return None
    metric = evaluate.load("tester/wer")
    return float(metric.compute(predictions=["a b c d"], references=["a x c"]))


def main(name: str, folder: Path, answers: Path) -> None:
    """Each code block of the card as well, where its audio file is."""
    os.chdir(folder)
    found = logits_and_texts(name, Path("speech.wav"))
    found["metric"] = served_metric()
    blocks = re.findall(r"```python\n(.*?)```", ModelCard.load(name).content, re.DOTALL)
    said: list[str] = []
    for block in blocks:
        exec(block, {"print": lambda *words: said.append(" ".join(map(str, words)))})
    answers.write_text(json.dumps(found | {"blocks": len(blocks), "said": said}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
