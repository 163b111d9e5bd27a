"""How much labelled speech does pretraining save? Errors from half a minute of labels to twenty.

    python examples/studies/label_efficiency.py --data ../shared/data

Needs FSDD digits (`fsdd`), sentences of three readers (`speech`) and LibriSpeech (`librispeech_train`); which
recordings train, choose and test is in `labelled_speech.py`. Networks, each trained with the same number of updates of
the same audio, with copies at other speeds:

    pretrained     the package's small model, fine-tuned by the recipe `ctc_small_minutes`
    scratch        the same shape from random weights, convolutions too
    cnn-rnn        a CRNN on log-mel energies with as many parameters as that recipe trains, by the recipe `ctc_crnn`
    cnn-rnn-large  the same with as many as the whole model

Texts are read off greedily, and with a language model of text that is not in the test, whose weights the development
set chooses. Every part is one file of results and is done once; parts may run side by side in several processes, and
the last step writes tables and figure beside this file. `--test MANIFEST` measures the digit models that are there on
recordings of anybody.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch's first tensor: large pages for large activations

import label_efficiency_runs as runs  # noqa: E402
import torch  # noqa: E402
from label_efficiency_results import take_up, write_results  # noqa: E402
from labelled_speech import SPEAKERS, Recordings, Row, labelled, manifest_rows, recordings  # noqa: E402
from perturbed_speech import write_table  # noqa: E402
from pretraining_study import write_json  # noqa: E402
from torch import Tensor  # noqa: E402

from wav2vec2 import CTCDecoder, NgramLanguageModel, Transcriber, Wav2Vec2CTCTokenizer  # noqa: E402
from wav2vec2.evaluation.provenance import hardware  # noqa: E402
from wav2vec2.evaluation.scoring import error_rates  # noqa: E402
from wav2vec2.training.finetuning import finetune  # noqa: E402

#: Words that the language model looks at together, and texts that beam search keeps.
ORDER, BEAM = 3, 32


@dataclass(frozen=True)
class Part:
    """One training and its test."""

    task: str
    minutes: float
    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.task}-{self.minutes:g}-{self.kind}-{self.seed}"


@dataclass(frozen=True)
class Recogniser:
    """A trained network: the log-probabilities (T, V) of a recording, and what they are of."""

    log_probs: Callable[[str], Tensor]
    tokenizer: Wav2Vec2CTCTokenizer
    parameters: int


class Study:
    """Where things are, and the parts."""

    def __init__(self, data: Path, work: Path) -> None:
        self.data, self.work = data, work
        self.tasks: dict[str, Recordings] = {}

    def task(self, name: str) -> Recordings:
        """The recordings of a task; found once."""
        if name not in self.tasks:
            self.tasks[name] = recordings(name, self.data, self.work)
        return self.tasks[name]

    def part(self, part: Part) -> None:
        """Train, and measure on the test set; done once, by whichever process comes first."""
        target = self.work / "results" / f"{part}.json"
        claim = target.with_suffix(".claimed")
        if target.is_file() or not _claimed(claim):
            return
        try:
            begun = time.monotonic()
            recogniser = self.trained(part)
            task = self.task(part.task)
            figures = measured(recogniser, task, task.test)
            figures |= {"seconds": round(time.monotonic() - begun), "updates": runs.updates(part.task)}
            figures |= {"parameters": recogniser.parameters, "hardware": hardware(torch.device("cpu"))}
            write_json(target, figures)
        finally:
            claim.unlink(missing_ok=True)

    def tested_by(self, part: Part, manifest: Path) -> None:
        """A part's model, trained if it is not there, on the recordings of a manifest."""
        target = self.work / "results" / f"{part}.{manifest.stem}.json"
        if not target.is_file():
            write_json(target, measured(self.trained(part), self.task(part.task), manifest_rows(manifest)))

    def trained(self, part: Part) -> Recogniser:
        """The network of a part; a model folder that is there is not trained again."""
        rows = labelled(self.task(part.task).train, part.minutes, part.seed)
        train = write_table(self.work / "labelled" / f"{part}.tsv", rows)
        output = self.work / "runs" / str(part)
        run = runs.finetuning_run(part.kind, part.task, part.seed, train, output)
        if not (output / "model" / "model.safetensors").is_file():
            finetune(run)
        transcriber = Transcriber.from_pretrained(output / "model", device="cpu")
        count = sum(one.numel() for one in transcriber.model.parameters())
        return Recogniser(lambda path: transcriber.log_probs(path)[0], transcriber.processor.tokenizer, count)


def _claimed(path: Path) -> bool:
    """Whether this process has a part to itself; a claim whose process is gone counts for nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and Path("/proc", path.read_text(encoding="utf-8") or "none").exists():
        return False
    path.write_text(str(os.getpid()), encoding="utf-8")
    return True


def measured(recogniser: Recogniser, task: Recordings, test: Sequence[Row]) -> dict[str, Any]:
    """Error rates of greedy search and with a language model."""
    tokenizer = recogniser.tokenizer
    vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    model = NgramLanguageModel.train(task.texts, order=ORDER, prune=(0,))
    decoder = CTCDecoder(
        vocabulary, tokenizer.pad_token_id, tokenizer.word_delimiter_token, language_model=model, beam=BEAM
    )
    developed = [recogniser.log_probs(row["path"]) for row in task.development]
    decoder.tune(developed, [row["transcript"] for row in task.development])
    frames = [recogniser.log_probs(row["path"]) for row in test]
    said = [row["transcript"] for row in test]
    figures: dict[str, Any] = {"recordings": len(test), "alpha": decoder.alpha, "beta": decoder.beta}
    for name, log_probs, texts in (("development", developed, task.development), ("greedy", frames, test)):
        heard = [decoder.greedy(one[None])[0][0].text for one in log_probs]
        figures |= _rates(name, [row["transcript"] for row in texts], heard)
    heard = [decoder.decode(one[None])[0][0].text for one in frames]
    return figures | _rates("with_words", said, heard) | {"said": said[:3], "heard": heard[:3]}


def _rates(name: str, said: Sequence[str], heard: Sequence[str]) -> dict[str, float]:
    """Word and character error rates in percent."""
    rates = error_rates(said, heard)
    return {f"{name}_wer": round(100 * rates.wer, 2), f"{name}_cer": round(100 * rates.cer, 2)}


def parts(tasks: Sequence[str], kinds: Sequence[str]) -> list[Part]:
    """Every part, the most telling first: the first budgets of all tasks, last the seeds where a claim is decided. The
    large classical network is there to see whether size is what it lacks, at the first budget of a task."""
    planned = [
        Part(task, budgets[rank], kind, seed)
        for seed in (1, 2, 3)
        for rank in range(max(map(len, runs.MINUTES.values())))
        for task, budgets in runs.MINUTES.items()
        if rank < len(budgets) and (seed == 1 or budgets[rank] in runs.DECIDED.get(task, ()))
        for kind in runs.KINDS
        if kind != "cnn-rnn-large" or (seed == 1 and rank == 0 and task in runs.DECIDED)
    ]
    return [part for part in planned if part.task in tasks and part.kind in kinds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("outputs/label_efficiency"))
    parser.add_argument("--tasks", nargs="*", choices=tuple(runs.MINUTES), default=tuple(runs.MINUTES))
    parser.add_argument("--kinds", nargs="*", choices=tuple(runs.KINDS), default=tuple(runs.KINDS))
    parser.add_argument("--test", type=Path, help="a manifest of digit strings that the digit models are measured on")
    parser.add_argument("--go-on", action="store_true", help="with the results beside this file: do only what lacks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    published = Path(__file__).parent / "results"
    if options.go_on:
        take_up(published, options.work / "results")
    study = Study(options.data, options.work)
    for part in parts(options.tasks, options.kinds):
        if options.test is None:
            study.part(part)
        elif part.task in SPEAKERS:
            study.tested_by(part, options.test)
    write_results(options.work / "results", published)


if __name__ == "__main__":
    main()
