"""Live recognition by latency: word errors beside the offline text, and how many streams one machine bears.

    python benchmarks/streaming.py outputs/quickstart                # the folder that `wav2vec2 quickstart` made
    python benchmarks/streaming.py outputs/quickstart --what speed

Each test sentence is a stream of its own, offline beside it. Then so many streams speak at once, pushed half a second
at a time: the real-time factor is the processor's time for a second of all of them together.
"""

import argparse
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
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


def real_time_factor(live: StreamingRecogniser, clips: Sequence[Any], streams: int) -> float:
    """Seconds of processor for a second in which so many streams speak."""
    size = round(PUSHED * live.sampling_rate)
    spoken = [np.concatenate([clips[(number + k) % len(clips)] for k in range(20)]) for number in range(streams)]
    opened = [live.open() for _ in spoken]
    begin = time.process_time()
    for place in range(0, round(SPOKEN * live.sampling_rate), size):
        for stream, samples in zip(opened, spoken, strict=True):
            stream.push(samples[place : place + size])
        while live.step():
            pass
    spent = time.process_time() - begin
    for stream in opened:
        stream.close()
    return spent / SPOKEN


def errors(loaded: Transcriber, clips: Sequence[Any], references: Sequence[str]) -> None:
    """Print word errors by decoder and latency, offline first."""
    decoders: dict[str, CTCDecoder | None] = {"greedy": None, "beam search": loaded.decoder}
    for name, decoder in decoders.items():
        offline = Transcriber(loaded.model, loaded.processor, decoder).transcribe([(clip, 16000) for clip in clips])
        assert isinstance(offline, list)
        print(f"{name:<12} offline  WER {words_wrong([one.text for one in offline], references):6.2f}", flush=True)
        for latency in LATENCIES:
            live = StreamingRecogniser(loaded.model, loaded.processor, decoder, latency=latency)
            wrong = words_wrong(live_texts(live, clips), references)
            print(f"{name:<12} {latency:5.2f} s  WER {wrong:6.2f}", flush=True)


def speed(loaded: Transcriber, clips: Sequence[Any]) -> None:
    """Print the real-time factors of greedy search by latency and number of streams."""
    for latency in LATENCIES[1:3]:
        for streams in STREAMS:
            live = StreamingRecogniser(loaded.model, loaded.processor, latency=latency)
            factor = real_time_factor(live, clips, streams)
            print(f"greedy {latency:5.2f} s  {streams:2} streams  real-time factor {factor:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quickstart", type=Path)
    parser.add_argument("--what", choices=["errors", "speed"], default="errors")
    parser.add_argument("--sentences", type=int, default=160)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(islice(read_manifest(arguments.quickstart / "corpus" / "test.tsv"), arguments.sentences))
    clips = [load_audio(row.path, 16000) for row in rows]
    loaded = Transcriber.from_pretrained(str(arguments.quickstart / "model"), device="cpu")
    if arguments.what == "errors":
        errors(loaded, clips, [row.transcript or "" for row in rows])
    else:
        speed(loaded, clips)


if __name__ == "__main__":
    main()
