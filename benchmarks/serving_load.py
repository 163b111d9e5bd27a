"""How long clients of `wav2vec2 serve` wait, by how many there are, and how many are told to come again.

    wav2vec2 serve outputs/quickstart/finetune/model --queue 16
    python benchmarks/serving_load.py talk.wav

Each client sends the recording, waits for its transcript, and sends it again; told to come again, it waits as long as
it was told. A row of the table is so many clients for `--seconds`: transcripts in a second, how many seconds of audio
those are, the median and the 95th percentile of the time from the first try to the transcript, and refusals.
"""

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from wav2vec2 import audio_duration


@dataclass
class Waits:
    """Seconds from the first try to the transcript, and how often a client was told to come again."""

    seconds: list[float] = field(default_factory=list)
    refusals: int = 0


async def client(http: httpx.AsyncClient, address: str, recording: bytes, end: float, waits: Waits) -> None:
    """Ask for transcripts until the time is over."""
    while time.monotonic() < end:
        began = time.monotonic()
        while (answer := await http.post(address, files={"file": recording})).status_code == 429:
            waits.refusals += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
        answer.raise_for_status()
        waits.seconds.append(time.monotonic() - began)


async def load(address: str, recording: bytes, clients: int, seconds: float) -> tuple[Waits, float]:
    """So many clients for so many seconds, and how long it took until the last had its answer."""
    waits, began = Waits(), time.monotonic()
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=clients)) as http:
        end = began + seconds
        await asyncio.gather(*(client(http, address, recording, end, waits) for _ in range(clients)))
    return waits, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    recording, duration = options.recording.read_bytes(), audio_duration(options.recording)
    place = f"{options.address}/v1/audio/transcriptions"
    print(f"{options.recording}: {duration:.1f} s")
    print("| clients | transcripts/s | audio/s | median, s | 95 %, s | told to come again |\n|---|---|---|---|---|---|")
    for clients in options.clients:
        waits, took = asyncio.run(load(place, recording, clients, options.seconds))
        rate = len(waits.seconds) / took
        slowest = sorted(waits.seconds)[max(0, round(0.95 * len(waits.seconds)) - 1)]
        cells = [f"{rate:.2f}", f"{rate * duration:.1f}", f"{statistics.median(waits.seconds):.2f}", f"{slowest:.2f}"]
        print(f"| {clients} | {' | '.join(cells)} | {waits.refusals} |", flush=True)


if __name__ == "__main__":
    main()
