"""Live recognition by latency: word errors beside the offline text, and how many streams one machine bears.

    python benchmarks/streaming.py outputs/quickstart                # the folder that `wav2vec2 quickstart` made
    python benchmarks/streaming.py outputs/quickstart --joined 40 --left 2    # streams of two minutes
    python benchmarks/streaming.py outputs/quickstart --model outputs/ctc_streaming/model --what speed
    python benchmarks/streaming.py outputs/quickstart --what hour

Each test sentence is a stream of its own, or so many are joined with half a second of hardly any noise between them;
offline beside it. Then so many streams speak at once, pushed half a second at a time: the real-time factor is the
processor's time for a second of all of them together, the memory what the process has grown by. The hour is one stream:
what its last minute costs beside its second one.
"""

import argparse
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch

from wav2vec2 import CTCDecoder, StreamingRecogniser, Transcriber, load_audio, read_manifest
from wav2vec2.evaluation.scoring import error_rates

LATENCIES = (0.48, 0.96, 1.92, 3.84)
STREAMS = (1, 8, 32)
#: Seconds that each of several streams speaks, and between two pushes.
SPOKEN, PUSHED = 20.0, 0.5


def words_wrong(texts: Sequence[str], references: Sequence[str]) -> float:
    """The word error rate in per cent."""
    return 100 * error_rates(references, texts).wer


def live_texts(live: StreamingRecogniser, clips: Sequence[Any]) -> list[str]:
    """The final text of each clip as a stream of its own."""
    texts = []
    for clip in clips:
        stream = live.open()
        words = [word.text for update in (stream.feed(clip), stream.finish()) for word in update.final]
        texts.append(live.separator.join(words))
    return texts


def joined(clips: Sequence[Any], references: Sequence[str], count: int) -> tuple[list[Any], list[str]]:
    """So many clips as one, with half a second of hardly any noise behind each; one alone as it is."""
    if count == 1:
        return list(clips), list(references)
    pause = (1e-4 * np.random.default_rng(0).standard_normal(8000)).astype(np.float32)
    groups = range(0, len(clips), count)
    sound = [np.concatenate([part for clip in clips[k : k + count] for part in (clip, pause)]) for k in groups]
    return sound, [" ".join(references[k : k + count]) for k in groups]


def resident() -> float:
    """The memory of this process, in MB."""
    return float(psutil.Process().memory_info().rss) / 1e6


def real_time_factor(live: StreamingRecogniser, clips: Sequence[Any], streams: int) -> tuple[float, float]:
    """Seconds of processor for a second in which so many streams speak, and what they need of memory, in MB."""
    before = resident()
    size = round(PUSHED * live.sampling_rate)
    spoken = [np.concatenate([clips[(number + k) % len(clips)] for k in range(20)]) for number in range(streams)]
    opened = [live.open() for _ in spoken]
    begin = time.process_time()
    for place in range(0, round(SPOKEN * live.sampling_rate), size):
        for stream, samples in zip(opened, spoken, strict=True):
            stream.push(samples[place : place + size])
        while live.step():
            pass
    spent, memory = time.process_time() - begin, resident() - before
    for stream in opened:
        stream.close()
    return spent / SPOKEN, memory


def errors(loaded: Transcriber, clips: Sequence[Any], references: Sequence[str], left: Any) -> None:
    """Print word errors by decoder and latency, offline first."""
    decoders: dict[str, CTCDecoder | None] = {"greedy": None, "beam search": loaded.decoder}
    for name, decoder in decoders.items():
        offline = Transcriber(loaded.model, loaded.processor, decoder).transcribe([(clip, 16000) for clip in clips])
        assert isinstance(offline, list)
        print(f"{name:<12} offline  WER {words_wrong([one.text for one in offline], references):6.2f}", flush=True)
        for latency in LATENCIES:
            live = StreamingRecogniser(loaded.model, loaded.processor, decoder, latency, left)
            wrong = words_wrong(live_texts(live, clips), references)
            print(f"{name:<12} {latency:5.2f} s  WER {wrong:6.2f}", flush=True)


def speed(loaded: Transcriber, clips: Sequence[Any], left: Any) -> None:
    """Print the real-time factors of greedy search by latency and number of streams."""
    for latency in LATENCIES[1:3]:
        for streams in STREAMS:
            live = StreamingRecogniser(loaded.model, loaded.processor, None, latency, left)
            factor, memory = real_time_factor(live, clips, streams)
            told = f"real-time factor {factor:.3f}  {memory:6.1f} MB"
            print(f"greedy {latency:5.2f} s  {streams:2} streams  {told}", flush=True)


def hour(loaded: Transcriber, clips: Sequence[Any], left: Any) -> None:
    """Print what a stream of an hour costs in its second minute and in its last, and what memory grew by between."""
    minute = np.concatenate(list(clips))[: 60 * 16000].reshape(120, -1)
    stream = StreamingRecogniser(loaded.model, loaded.processor, left_context=left).open()
    seconds, memory = [], []
    for _ in range(60):
        begin = time.process_time()
        for packet in minute:
            stream.feed(packet)
        seconds.append(time.process_time() - begin)
        memory.append(resident())
    print(f"seconds of the second minute {seconds[1]:.2f}, of the last five {np.round(seconds[-5:], 2)}", flush=True)
    print(f"memory grew by {memory[-1] - memory[1]:.1f} MB from the second minute to the last", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quickstart", type=Path)
    parser.add_argument("--what", choices=["errors", "speed", "hour"], default="errors")
    parser.add_argument("--model", type=Path, help="another model than the quickstart's")
    parser.add_argument("--sentences", type=int, default=160)
    parser.add_argument("--joined", type=int, default=1, help="sentences in a stream")
    parser.add_argument("--left", type=float, help="seconds of left context; by default what suits the model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(islice(read_manifest(arguments.quickstart / "corpus" / "test.tsv"), arguments.sentences))
    clips = [load_audio(row.path, 16000) for row in rows]
    loaded = Transcriber.from_pretrained(str(arguments.model or arguments.quickstart / "model"), device="cpu")
    left = "auto" if arguments.left is None else arguments.left
    if arguments.what == "errors":
        errors(loaded, *joined(clips, [row.transcript or "" for row in rows], arguments.joined), left)
    else:
        {"speed": speed, "hour": hour}[arguments.what](loaded, clips, left)


if __name__ == "__main__":
    main()
