"""Measure what the pictures show of trained models, and leave it in `data/`, thinned and rounded.

    python docs/pictures/measure.py --pretrained RUN --collapsed RUN --finetuned RUN --recogniser MODEL

RUN is the output folder of a run: `pretrained` that of `examples/studies/pretraining_study.py` (ours-1), `finetuned`
that of `examples/studies/overfit_ten.py`; MODEL is `quickstart/model`, and `collapsed` comes from its corpus:

    wav2vec2 pretrain tiny_cpu data.train.0.path=quickstart/corpus/pretrain.tsv run.output=collapsed \
        data.seconds_per_update=16 data.seconds_per_batch=16 optimizer.learning_rate=2e-2 schedule.warmup=0.02 \
        model.config.diversity_loss_weight=0 guards.collapse=false run.updates=300 run.log_every=5

Shapes: T frames, N masked frames, V tokens.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from draw import HERE
from masking_picture import CLIP_SEED, mask_of
from spoken_sentence import SENTENCE, Samples, speak

from wav2vec2 import Transcriber, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining
from wav2vec2.modeling.contrastive_loss import sample_distractors
from wav2vec2.training.progress.training_log import read_log

#: Points of a curve that are kept.
POINTS = 120
#: Said for the picture of CTC, by a voice that the recogniser has not heard.
SHORT_SENTENCE = "the happy farmer"


def lines_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind in the log of a run, thinned."""
    lines = [line for line in read_log(run) if line["kind"] == kind]
    return lines[:: max(1, len(lines) // POINTS)]


def columns(lines: Sequence[dict[str, Any]], *names: str) -> dict[str, list[Any]]:
    """The lines as columns of rounded numbers."""
    return {name: [rounded(line[name]) for line in lines] for name in ("update", *names)}


def rounded(value: Any, digits: int = 4) -> Any:
    """A number, or a list of numbers, with few digits."""
    return [rounded(one, digits) for one in value] if isinstance(value, list) else round(value, digits)


def pretraining_curves(healthy: Path, collapsed: Path) -> dict[str, Any]:
    """Loss, accuracy and codes of two runs."""
    names = ("bits", "accuracy", "code_perplexity")
    return {
        "healthy": columns(lines_of(healthy, "training"), *names),
        "held_out": columns(lines_of(healthy, "evaluation"), "accuracy"),
        "collapsed": columns(lines_of(collapsed, "training"), *names),
    }


def finetuning_curves(run: Path) -> dict[str, Any]:
    """Loss, blanks and errors."""
    evaluated = columns(lines_of(run, "evaluation"), "wer", "cer")
    training = columns(lines_of(run, "training"), "loss", "blank_share")
    return training | {"evaluated": evaluated.pop("update")} | evaluated


def codebooks(healthy: Path, collapsed: Path) -> dict[str, Any]:
    """How often each code was chosen, by the runs' last counts."""
    counts = [json.loads((run / "codes.json").read_text(encoding="utf-8"))["counts"] for run in (healthy, collapsed)]
    return {"healthy": counts[0], "collapsed": counts[1]}


def contrastive_choice(run: Path, samples: Samples) -> dict[str, Any]:
    """Similarities of predictions and targets (N, N) on the sentence, and those of one frame with its distractors.

    The frame is the one whose probability is the median of those that are right.
    """
    folder = run / "model"
    model = Wav2Vec2ForPreTraining.from_pretrained(folder).eval()
    values = Wav2Vec2FeatureExtractor.from_pretrained(folder)(samples, sampling_rate=16_000, return_tensors="pt")
    mask = torch.from_numpy(mask_of(len(samples)))[None]
    distractors = sample_distractors(mask, 100, torch.Generator().manual_seed(CLIP_SEED))[0][mask[0]]  # (N, K)
    with torch.no_grad():
        output = model(values.input_values, mask_time_indices=mask)
    predictions, targets = (
        F.normalize(states[0], dim=-1) for states in (output.projected_states, output.projected_quantized_states)
    )
    every = predictions @ targets.T  # (T, T)
    negatives = every[mask[0]].gather(1, distractors)  # (N, K)
    own = every.diagonal()[mask[0]]
    # A distractor with the target's own code takes no part, in the loss either.
    other = negatives.masked_fill(torch.isclose(negatives, own[:, None], atol=1e-5), -1.0)
    right = (own > other.amax(1)).nonzero()[:, 0]
    chance = (own - other.logsumexp(1)).gather(0, right)
    frame = int(right[chance.argsort()[len(right) // 2]])
    return {
        "frame": frame,
        "right": len(right),
        "kappa": model.config.contrastive_logits_temperature,
        "similarities": rounded(every[mask[0]][:, mask[0]].tolist(), 2),
        "distractors": rounded(negatives[frame].tolist(), 3),
    }


def ctc_path(folder: Path) -> dict[str, Any]:
    """Posteriors (T, V) of a recogniser for a short sentence, of the tokens that are ever likely."""
    transcriber = Transcriber.from_pretrained(folder, device="cpu")
    log_probs, _ = transcriber.log_probs((speak(SHORT_SENTENCE, 1), 16_000))
    posteriors = log_probs.exp()
    likely = (posteriors.amax(0) > 0.1).nonzero()[:, 0]
    tokens = [transcriber.processor.tokenizer.tokens[index] for index in likely.tolist()]
    order = sorted(range(len(tokens)), key=lambda index: (tokens[index] not in ("<pad>", "|"), tokens[index]))
    return {
        "text": SHORT_SENTENCE,
        "tokens": [tokens[index] for index in order],
        "posteriors": rounded(posteriors[:, likely[order]].tolist(), 3),
    }


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser()
    for name in ("pretrained", "collapsed", "finetuned", "recogniser"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=HERE / "data")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    found = {
        "pretraining_curves": pretraining_curves(given.pretrained, given.collapsed),
        "finetuning_curves": finetuning_curves(given.finetuned),
        "codebooks": codebooks(given.pretrained, given.collapsed),
        "contrastive_choice": contrastive_choice(given.pretrained, speak(SENTENCE)),
        "ctc_path": ctc_path(given.recogniser),
    }
    for name, content in found.items():
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        (given.output / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
