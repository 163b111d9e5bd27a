"""An hour of a stream in a process that has done nothing else: what a second of it costs in time and memory.

In a process with the remains of a thousand tests, memory moves by more than a stream takes.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from recognition_checkpoints import RATE, noise, processor, talkative_model

from wav2vec2 import StreamingRecogniser

#: One layer and two convolutions; a frame is 320 samples as always.
SHALLOW: dict[str, Any] = {
    "num_hidden_layers": 1, "conv_dim": (8, 8), "conv_stride": (20, 16), "conv_kernel": (40, 20),
}  # fmt: skip


def minutes(count: int) -> Iterator[Any]:
    """Packets of two seconds: speech-like noise that comes and goes, and silence."""
    loud = noise(20.0, seed=1)
    minute = np.concatenate([loud, np.zeros(10 * RATE, np.float32), loud, 1e-4 * loud[: 10 * RATE]])
    for _ in range(count):
        yield from minute.reshape(-1, 2 * RATE)


def measure(report: Path) -> None:
    """The memory of the process after each minute of an hour, how many words came, and the seconds that each of six
    minutes then takes in this stream and in a fresh one, side by side: others use the processor too."""
    model = talkative_model("large_lv60k", **SHALLOW)
    live = StreamingRecogniser(model, processor(), latency=11.52, left_context=2.0)
    stream, process = live.open(), psutil.Process()
    memory, words = [], 0
    for number, packet in enumerate(minutes(60), 1):
        words += len(stream.feed(packet).final)
        if number % 30 == 0:
            memory.append(process.memory_info().rss)
    packets, fresh = list(minutes(6)), live.open()
    spent: dict[str, list[float]] = {"old": [], "fresh": []}
    for minute in range(6):
        for name, one in (("old", stream), ("fresh", fresh)):
            begin = time.process_time()
            for packet in packets[30 * minute : 30 * minute + 30]:
                one.feed(packet)
            spent[name].append(time.process_time() - begin)
    report.write_text(json.dumps({"memory": memory, "words": words} | spent))
