"""Beam search with a language model beside flashlight-text, pyctcdecode and a plain loop, on one noisy task.

    python benchmarks/decoding.py                    # 8 utterances of 20 s
    python benchmarks/decoding.py --skip-loop        # without the plain Python search, which takes a while
    python benchmarks/decoding.py --device cuda      # beside the encoder's pass over the same 32 clips of 15 s

The task: sentences of a made-up language of 5,000 words, whose 3-gram model is estimated from sentences of the same
source; 1000 frames of 32 labels each, so noisy that greedy search gets most words wrong. flashlight-text, and
pyctcdecode with kenlm, are measured where they are installed (`pip install flashlight-text kenlm`,
`pip install --no-deps pyctcdecode pygtrie`). All decoders have the same model, weights and lexicon. Times are medians
over interleaved repetitions, with the machine's own matrix product beside them.
"""

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wav2vec2.configuration import presets
from wav2vec2.decoding.confidences import ReliabilityBin, reliability_curve
from wav2vec2.decoding.ctc_decoder import CTCDecoder
from wav2vec2.decoding.frame_preparation import checked
from wav2vec2.decoding.weight_tuning import compare_words
from wav2vec2.language_models.ngram_language_model import NgramLanguageModel
from wav2vec2.modeling.wav2vec2_model import Wav2Vec2Model

VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
ALPHA, BETA = 1.0, 1.0
UNKNOWN = -100.0  # no utterance has unknown words


@dataclass
class Task:
    """What all decoders are given."""

    #: The words of the language.
    lexicon: list[str]
    #: Its language model in memory.
    model: NgramLanguageModel
    #: The same model on disk.
    arpa: Path
    #: Utterances (N, 1000, 32).
    log_probs: Tensor
    #: Their texts.
    references: list[str]
    #: Utterances of other sentences of the language, with their texts.
    dev: tuple[Tensor, list[str]]


class Language:
    """Words, and for each word the words that like to follow it."""

    def __init__(self, seed: int, words: int = 5000, followers: int = 30) -> None:
        self.random = np.random.default_rng(seed)
        letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        share = 1 / np.arange(3, 29)
        lexicon: dict[str, None] = {}
        while len(lexicon) < words:
            length = int(self.random.integers(2, 10))
            lexicon["".join(self.random.choice(letters, length, p=share / share.sum()))] = None
        self.lexicon = list(lexicon)
        self.frequency = 1 / np.arange(1, words + 1) ** 0.8
        self.frequency /= self.frequency.sum()
        self.followers = self.random.choice(words, (words, followers), p=self.frequency)

    def sentence(self, length: int) -> list[str]:
        """Words that mostly follow each other as they like."""
        word, sentence = int(self.random.choice(len(self.lexicon), p=self.frequency)), []
        for _ in range(length):
            sentence.append(self.lexicon[word])
            row = self.followers[word]
            likes = self.random.random() < 0.85
            word = (
                int(row[int(len(row) * self.random.random() ** 2)])
                if likes
                else int(self.random.integers(len(self.lexicon)))
            )
        return sentence


def make_task(utterances: int, folder: Path, noise: float, seed: int = 0) -> Task:
    """The language, its model and noisy log-probabilities of fresh sentences."""
    language = Language(seed)
    text = [" ".join(language.sentence(12)) for _ in range(12_000)]
    model = NgramLanguageModel.train(text + language.lexicon, order=3, prune=(0,))
    arpa = folder / "toy.arpa"
    model.to_arpa(arpa)
    spoken = [speak(" ".join(language.sentence(60)), language.random, noise) for _ in range(2 * utterances)]
    log_probs, texts = torch.stack([row for row, _ in spoken]), [text for _, text in spoken]
    dev = log_probs[utterances:], texts[utterances:]
    return Task(language.lexicon, model, arpa, log_probs[:utterances], texts[:utterances], dev)


def speak(
    text: str, random: np.random.Generator, noise: float, frames: int = 1000, gaps: int = 4, height: float = 7.0
) -> tuple[Tensor, str]:
    """Noisy log-probabilities (frames, 32) of as many words as fit, one spike a letter, and those words."""
    path: list[int] = []
    said: list[str] = []
    for word in text.split():
        spikes = []
        for letter in f"{word}|":
            gap = int(random.integers(1, gaps))
            spikes += [0] * gap + [VOCABULARY.index(letter)] * int(random.integers(1, 3))
        if len(path) + len(spikes) > frames:
            break
        path, said = path + spikes, [*said, word]
    path += [0] * (frames - len(path))
    logits = torch.from_numpy(random.normal(0.0, noise, (frames, len(VOCABULARY)))).float()
    logits[torch.arange(frames), torch.tensor(path)] += height
    return logits.log_softmax(-1), " ".join(said)


def ours(task: Task, beam: int, batch: int, lexicon: bool = True) -> Callable[[], list[str]]:
    """This package's decoder, in batches."""
    decoder = CTCDecoder(
        VOCABULARY,
        0,
        "|",
        task.model,
        task.lexicon if lexicon else None,
        beam=beam,
        alpha=ALPHA,
        beta=BETA,
        unknown_penalty=UNKNOWN,
    )
    return lambda: [best[0].text for part in task.log_probs.split(batch) for best in decoder.decode(part)]


def greedy(task: Task) -> Callable[[], list[str]]:
    """Greedy search of this package."""
    decoder = CTCDecoder(VOCABULARY, 0, "|")
    return lambda: [best[0].text for best in decoder.greedy(task.log_probs)]


def flashlight(task: Task, beam: int) -> Callable[[], list[str]]:
    """flashlight-text's lexicon decoder, one utterance after the other."""
    text = import_module("flashlight.lib.text.decoder")
    kenlm, dictionary = import_module(f"{text.__name__}.kenlm"), import_module("flashlight.lib.text.dictionary")

    words = dictionary.Dictionary(task.lexicon)
    words.add_entry("<unk>")
    model = kenlm.KenLM(str(task.arpa), words)
    silence, blank = VOCABULARY.index("|"), 0
    trie = text.Trie(len(VOCABULARY), silence)
    start = model.start(False)
    for word in task.lexicon:
        spelling = [VOCABULARY.index(letter) for letter in word] + [silence]
        trie.insert(spelling, words.get_index(word), model.score(start, words.get_index(word))[1])
    trie.smear(text.SmearingMode.MAX)
    options = text.LexiconDecoderOptions(
        beam_size=beam,
        beam_size_token=len(VOCABULARY),
        beam_threshold=100.0,
        lm_weight=ALPHA * math.log(10),
        word_score=BETA,
        unk_score=-math.inf,
        sil_score=0.0,
        log_add=False,
        criterion_type=text.CriterionType.CTC,
    )
    search = text.LexiconDecoder(options, trie, model, silence, blank, words.get_index("<unk>"), [], False)

    def decode() -> list[str]:
        found = []
        for row in task.log_probs:
            best = search.decode(row.data_ptr(), *row.shape)[0]
            found.append(" ".join(words.get_entry(word) for word in best.words if word >= 0))
        return found

    return decode


def pyctcdecode(task: Task, beam: int, **pruning: float) -> Callable[[], list[str]]:
    """pyctcdecode with kenlm, one utterance after the other, with its own pruning or another."""
    import_module("kenlm")  # without it pyctcdecode would decode without the model
    labels = ["" if token == "<pad>" else " " if token == "|" else token for token in VOCABULARY]
    search = import_module("pyctcdecode").build_ctcdecoder(
        labels, str(task.arpa), task.lexicon, alpha=ALPHA, beta=BETA, unk_score_offset=UNKNOWN / math.log(10)
    )
    arrays = [row.numpy() for row in task.log_probs]
    return lambda: [search.decode(row, beam_width=beam, **pruning) for row in arrays]


def loop(task: Task, beam: int) -> Callable[[], list[str]]:
    """A prefix beam search in plain Python, with the same lexicon and model: what a user would write."""
    scores: dict[tuple[int, str], tuple[float, int]] = {}
    prefixes = {word[:end] for word in task.lexicon for end in range(1, len(word) + 1)}
    words, delimiter = set(task.lexicon), VOCABULARY.index("|")
    letters = [index for index, token in enumerate(VOCABULARY) if token.isalpha() and len(token) == 1]

    def word_score(state: int, word: str) -> tuple[float, int]:
        if (state, word) not in scores:
            found = task.model.score(torch.tensor([state]), task.model.word_ids([word]))
            scores[state, word] = (float(found[0]), int(found[1]))
        return scores[state, word]

    def decode_one(rows: list[list[float]]) -> str:
        # text, open word -> [mass ending in blank, mass ending in the last token, language model, state]
        beams: dict[tuple[str, str], list[float]] = {("", ""): [0.0, -math.inf, 0.0, task.model.begin()]}
        for row in rows:
            new: dict[tuple[str, str], list[float]] = {}
            likely = [token for token in [*letters, delimiter] if row[token] > max(row) - 12.0]
            for (text, word), (blank, token, extra, state) in beams.items():
                total = np.logaddexp(blank, token)
                last = VOCABULARY.index(word[-1]) if word else delimiter
                stay = new.setdefault((text, word), [-math.inf, -math.inf, extra, state])
                stay[0] = np.logaddexp(stay[0], total + row[0])
                stay[1] = np.logaddexp(stay[1], (token if word else total) + row[last])
                for add in likely:
                    mass = (blank if add == last else total) + row[add]
                    if add != delimiter and word + VOCABULARY[add] in prefixes:
                        entry = new.setdefault((text, word + VOCABULARY[add]), [-math.inf, -math.inf, extra, state])
                    elif add == delimiter and word in words:
                        gain, following = word_score(int(state), word)
                        earned = extra + ALPHA * gain + BETA
                        entry = new.setdefault((f"{text} {word}", ""), [-math.inf, -math.inf, earned, following])
                    else:
                        continue
                    entry[1] = np.logaddexp(entry[1], mass)
            ranked = sorted(new.items(), key=lambda item: -(np.logaddexp(item[1][0], item[1][1]) + item[1][2]))
            beams = dict(ranked[:beam])
        return next((text for text, word in beams if not word), "").strip()

    return lambda: [decode_one(row.tolist()) for row in task.log_probs]


def error_rate(found: list[str], references: list[str]) -> float:
    """Word error rate of texts."""
    errors = sum(compare_words(f.split(), r.split()).errors for f, r in zip(found, references, strict=True))
    return errors / sum(len(r.split()) for r in references)


def matmul_gigaflops(size: int = 1024) -> float:
    """The machine's own speed, for comparison with other machines."""
    a = torch.randn(size, size)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times) / 1e9


def sides(task: Task, skip_loop: bool) -> dict[str, Callable[[], list[str]]]:
    """All decoders that can run here."""
    made: dict[str, Callable[[], list[str]]] = {
        "ours, greedy": greedy(task),
        "ours, beam 50, one by one": ours(task, 50, 1),
        "ours, beam 50, batches of 8": ours(task, 50, 8),
        "ours, beam 100, batches of 8": ours(task, 100, 8),
        "ours, beam 50, batches of 8, open vocabulary": ours(task, 50, 8, lexicon=False),
    }
    others: dict[str, Callable[[], Any]] = {
        "flashlight-text, beam 50": lambda: flashlight(task, 50),
        "flashlight-text, beam 100": lambda: flashlight(task, 100),
        "flashlight-text, beam 500": lambda: flashlight(task, 500),
        "pyctcdecode, beam 50": lambda: pyctcdecode(task, 50),
        "pyctcdecode, beam 50, pruned as ours": lambda: pyctcdecode(
            task, 50, token_min_logp=-12.0, beam_prune_logp=-100.0
        ),
        "pyctcdecode, beam 100": lambda: pyctcdecode(task, 100),
    }
    for name, make in others.items():
        try:
            made[name] = make()
        except ImportError as error:
            print(f"{name}: not installed ({error})")
    if not skip_loop:
        made["plain Python loop, beam 50"] = loop(task, 50)
    return made


def measure(device: str, quick: bool = False) -> dict[str, Any]:
    """Milliseconds of the encoder's pass in bfloat16 over clips of 15 s, and of decoding as many frames.

    As from a trained model, seven frames of ten are blanks of a probability near 0.999. "texts" are a search and words
    with times and confidences; `same_texts` says how many are what a CPU finds. `quick` is a tiny try of everything.
    """
    clips, seconds, rounds, words = (2, 1, 1, 300) if quick else (32, 15, 5, 5000)
    language = Language(0, words)
    model = Wav2Vec2Model((presets.tiny if quick else presets.base)()).to(device).eval()
    audio = torch.randn(clips, seconds * 16000, device=device)
    lm = NgramLanguageModel.train([" ".join(language.sentence(12)) for _ in range(2 * words)], order=3, prune=(0,))
    said = partial(speak, random=language.random, noise=1.0, frames=seconds * 50 - 1, gaps=7, height=11.0)
    log_probs = torch.stack([said(" ".join(language.sentence(60)))[0] for _ in range(clips)]).to(device)

    @torch.inference_mode()
    def encode() -> Any:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            return model(audio).last_hidden_state

    works: dict[str, Callable[[], Any]] = {"encoder": encode}
    works["greedy, texts"] = partial(CTCDecoder(VOCABULARY).greedy, log_probs)
    same = []
    for beam, with_model in itertools.product((5,) if quick else (25, 100), (False, True)):
        decoder = CTCDecoder(VOCABULARY, language_model=lm if with_model else None, beam=beam)
        name = f"beam {beam}{', 3-gram' * with_model}"
        works[f"{name}, search"] = partial(decoder.search, *checked(log_probs, None, len(VOCABULARY)))
        works[f"{name}, texts"] = partial(decoder.decode, log_probs)
        both = zip(decoder.decode(log_probs[:4].cpu()), decoder.decode(log_probs[:4]), strict=True)
        same += [here[0].text == there[0].text for here, there in both]
    times: dict[str, list[float]] = {name: [] for name in works}
    for _, (name, work) in itertools.product(range(rounds + 1), works.items()):
        times[name].append(milliseconds(work, device))
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    return {"clips": clips, "seconds": seconds, "milliseconds": medians, "same_texts": f"{sum(same)} of {len(same)}"}


def milliseconds(work: Callable[[], object], device: str) -> float:
    """How long a piece of work takes."""
    start = time.perf_counter()
    work()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def calibration_error(curve: list[ReliabilityBin]) -> float:
    """Expected calibration error: the mean distance of a word's bin from the diagonal."""
    words = sum(entry.count for entry in curve)
    return sum(entry.count * abs(entry.confidence - entry.accuracy) for entry in curve) / max(words, 1)


def report_reliability(task: Task) -> None:
    """Tune on one half of the task, and say on the other how often words of each confidence are right."""
    decoder = CTCDecoder(VOCABULARY, 0, "|", task.model, task.lexicon, unknown_penalty=UNKNOWN)
    report = decoder.tune(*task.dev)
    print(
        f"\ntuned on {len(task.dev[1])} other utterances: alpha {report.alpha:.1f}, beta {report.beta:.2f}, "
        f"word error rate {report.error_rate_before:.3f} -> {report.error_rate:.3f}"
    )
    confidences: list[float] = []
    correct: list[bool] = []
    for best, reference in zip(decoder.decode(task.log_probs), task.references, strict=True):
        confidences += [word.confidence for word in best[0].words]
        correct += compare_words(best[0].text.split(), reference.split()).correct
    curve = reliability_curve(confidences, correct)
    print(f"held-out words by confidence (calibration error {calibration_error(curve):.3f}):")
    for entry in curve:
        print(
            f"  {entry.lower:.1f}-{entry.upper:.1f}  {entry.count:5d} words, mean {entry.confidence:.3f}, "
            f"right {entry.accuracy:.3f}"
        )


def main() -> None:
    """Make the task, measure all sides interleaved, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--noise", type=float, default=2.2)
    parser.add_argument("--threads", type=int, default=1, help="of torch; the other decoders have one")
    parser.add_argument("--skip-loop", action="store_true")
    parser.add_argument("--device", help="measure decoding beside the encoder's pass there, and nothing else")
    parser.add_argument("--quick", action="store_true", help="with --device: try everything at a tiny size")
    arguments = parser.parse_args()
    if arguments.device:
        measures = measure(arguments.device, arguments.quick)
        print("\n".join(f"{name:30s}{taken:10.1f} ms" for name, taken in measures["milliseconds"].items()), measures)
        return
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        task = make_task(arguments.utterances, Path(folder), arguments.noise)
        measured = sides(task, arguments.skip_loop)
        texts: dict[str, list[str]] = {}
        times: dict[str, list[float]] = {name: [] for name in measured}
        for _, (name, decode) in itertools.product(range(arguments.repetitions), measured.items()):
            if name.startswith("plain") and times[name]:
                continue  # it takes too long to repeat
            start = time.perf_counter()
            texts[name] = decode()
            times[name].append((time.perf_counter() - start) / arguments.utterances)
        print(
            f"{arguments.utterances} utterances of 1000 frames x {len(VOCABULARY)} labels, {len(task.lexicon)} words; "
            f"{torch.get_num_threads()} threads, matrix product {matmul_gigaflops():.0f} GFLOP/s\n"
        )
        base = statistics.median(times["ours, beam 50, batches of 8"])
        print(f"{'':46s}{'s/utterance':>12s}{'ratio':>8s}{'word error rate':>17s}")
        for name, found in texts.items():
            seconds = statistics.median(times[name])
            print(f"{name:46s}{seconds:12.4f}{seconds / base:8.2f}{error_rate(found, task.references):17.4f}")
        report_reliability(task)


if __name__ == "__main__":
    main()
