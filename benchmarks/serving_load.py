"""How long clients of `wav2vec2 serve` wait, by how many there are, and how many are told to come again.

    wav2vec2 serve outputs/quickstart/finetune/model --queue 16
    python benchmarks/serving_load.py talk.wav

Each client sends the recording, waits for its transcript, and sends it again; told to come again, it waits as long as
it was told. A row of the table is so many clients for `--seconds`: transcripts in a second, how many seconds of audio
those are, the median and the 95th percentile of the time to a transcript, from the try that was taken and from the
first one, how many tries were refused (429), and how many recordings waited in the queue at most. It must not be longer
than the service's `--queue`, and no other answer may come. About a minute in all.
"""

import argparse
import asyncio
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from wav2vec2 import audio_duration


@dataclass
class Waits:
    """What clients have seen."""

    #: Seconds to a transcript, from the try that was taken.
    taken: list[float] = field(default_factory=list)
    #: The same, from the first try.
    seconds: list[float] = field(default_factory=list)
    #: How often a client was told to come again.
    refusals: int = 0
    #: How long the queue was at most, whenever it was looked at.
    queue: int = 0

    def cells(self) -> list[str]:
        """As a table has them."""
        times = [percentile(one, share) for one in (self.taken, self.seconds) for share in (0.5, 0.95)]
        return [*(f"{time:.2f}" for time in times), str(self.refusals), str(self.queue)]


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is no less than this share of all."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


async def figure(http: httpx.AsyncClient, address: str, name: str) -> int:
    """A figure of the service's own."""
    lines = (await http.get(f"{address}/metrics")).text.splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


async def client(http: httpx.AsyncClient, address: str, recording: bytes, end: float, waits: Waits) -> None:
    """Ask for transcripts until the time is over."""
    place = f"{address}/v1/audio/transcriptions"
    while time.monotonic() < end:
        began = tried = time.monotonic()
        while (answer := await http.post(place, files={"file": recording})).status_code == 429:
            waits.refusals += 1
            await asyncio.sleep(float(answer.headers["retry-after"]))
            tried = time.monotonic()
        answer.raise_for_status()
        waits.taken.append(time.monotonic() - tried)
        waits.seconds.append(time.monotonic() - began)


async def watch(http: httpx.AsyncClient, address: str, waits: Waits) -> None:
    """Look at the queue ten times a second, until cancelled."""
    while True:
        waits.queue = max(waits.queue, await figure(http, address, "wav2vec2_queue_length"))
        await asyncio.sleep(0.1)


async def load(address: str, recording: bytes, clients: int, seconds: float) -> tuple[Waits, float]:
    """So many clients for so many seconds, and how long it took until the last had its answer."""
    waits, began = Waits(), time.monotonic()
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=clients + 1)) as http:
        watching = asyncio.create_task(watch(http, address, waits))
        await asyncio.gather(*(client(http, address, recording, began + seconds, waits) for _ in range(clients)))
        watching.cancel()
        assert waits.queue <= await figure(http, address, "wav2vec2_queue_limit")
    return waits, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    recording, duration = options.recording.read_bytes(), audio_duration(options.recording)
    print(f"{options.recording}: {duration:.1f} s")
    print("| clients | transcripts/s | audio/s | median, s | 95 %, s | from the first try | 95 % | refused | queue |")
    print("|---|---|---|---|---|---|---|---|---|")
    for clients in options.clients:
        waits, took = asyncio.run(load(options.address, recording, clients, options.seconds))
        rate = len(waits.seconds) / took
        cells = [str(clients), f"{rate:.2f}", f"{rate * duration:.1f}", *waits.cells()]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
