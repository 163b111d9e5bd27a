"""Does a service hold anything of clients who send nonsense? Its memory, by how many there were.

    python benchmarks/serving_under_attack.py MODEL talk.wav --connections 30000

A service of the model is started, which is patient for `--patience` seconds, with the honest client as well: too few
where much else is at work, and it is taken for one that sends too slowly. Hostile connections speak HTTP, Vosk's
protocol, OpenAI's realtime protocol, that of the captions page, and Wyoming. What each sends is well formed first, and
then bytes of it are changed, left out or doubled; some are cut off, some come letter by letter, some are too large, and
beside them 200 sockets send nothing at all. Meanwhile an honest client asks for one transcript after another; they must
all be the same. A row of the table is a tenth of the connections: what the process holds then, after a pause of three
seconds, and how long the honest client waited. Memory is what the process has for itself (of /proc/PID/smaps_rollup).
"""

import argparse
import asyncio
import base64
import itertools
import multiprocessing
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import httpx

#: Hostile connections at a time, and seconds after its first answer after which one is left without a goodbye.
_AT_ONCE, _LEAVES_AFTER = 60, 1.0
#: Bytes of a recording at most.
_LARGEST = 2**20


@dataclass(frozen=True)
class Target:
    """The process of the service, and its two ports."""

    pid: int
    port: int
    wyoming: int

    def held(self) -> tuple[float, int, int]:
        """Its own memory in MB, its threads, and its open files."""
        here = Path(f"/proc/{self.pid}")
        rows = dict(line.split(":", 1) for line in (here / "smaps_rollup").read_text().splitlines()[1:])
        own = sum(int(rows[name].split()[0]) for name in ("Private_Clean", "Private_Dirty")) * 1024 / 1e6
        return own, len(os.listdir(here / "task")), len(os.listdir(here / "fd"))


def serve(model: str, patience: float, told: Connection) -> None:
    """The process of the service."""
    import logging

    from wav2vec2 import Transcriber
    from wav2vec2.serving.application import Service
    from wav2vec2.serving.running import run
    from wav2vec2.serving.settings import ServiceSettings

    logging.disable()  # each fault of a client's would be a line
    settings = ServiceSettings(
        ("attacked",),
        port=0,
        wyoming_port=0,
        upload_bytes=_LARGEST,
        upload_seconds=patience,
        idle_seconds=patience,
    )
    service = Service(Transcriber.from_pretrained(model, "cpu"), settings)

    def ready(address: str) -> None:
        assert service.wyoming is not None and service.wyoming.socket is not None
        wyoming = service.wyoming.socket.getsockname()[1]
        told.send(Target(os.getpid(), int(address.rpartition(":")[2]), wyoming))

    run(service, ready)


@contextmanager
def process(target: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """A process of its own, with which one can speak, ended by a signal."""
    there = multiprocessing.get_context("spawn")
    here, told = there.Pipe()
    running = there.Process(target=target, args=(*arguments, told))
    running.start()
    told.close()  # so that nothing is waited for once it has ended
    try:
        yield here
    finally:
        running.terminate()
        running.join()


def upload(sound: bytes) -> bytes:
    """A request for a transcript."""
    body = b'--cut\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + sound
    body += b'\r\n--cut\r\ncontent-disposition: form-data; name="model"\r\n\r\nattacked\r\n--cut--\r\n'
    lines = ["POST /v1/audio/transcriptions HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += ["content-type: multipart/form-data; boundary=cut", "connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def conversation(path: str, *messages: str | bytes) -> bytes:
    """A request for a websocket, and what is sent over it."""
    lines = [f"GET {path} HTTP/1.1", "host: 127.0.0.1", "upgrade: websocket", "connection: Upgrade"]
    lines += ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13", "", ""]
    return "\r\n".join(lines).encode() + b"".join(map(frame, messages))


def frame(message: str | bytes) -> bytes:
    """A message as a client sends it over a websocket, with a mask of zeros."""
    content = message.encode() if isinstance(message, str) else message
    size = bytes([0x80 | len(content)]) if len(content) < 126 else bytes([0xFE]) + len(content).to_bytes(2, "big")
    return bytes([0x81 if isinstance(message, str) else 0x82]) + size + bytes(4) + content


def command(sound: bytes) -> bytes:
    """A command over Wyoming."""
    format = b'"data":{"rate":16000,"width":2,"channels":1}'
    begin = b'{"type":"audio-start",' + format + b"}\n"
    chunk = b'{"type":"audio-chunk",' + format + b',"payload_length":%d}\n' % len(sound)
    return begin + chunk + sound + b'{"type":"audio-stop"}\n'


def mutated(request: bytes, draw: random.Random) -> bytes:
    """With one to three bytes or stretches changed."""
    found = bytearray(request)
    for _ in range(draw.randint(1, 3)):
        place, size = draw.randrange(len(found)), draw.randint(1, 20)
        match draw.randrange(3):
            case 0:
                found[place] = draw.randrange(256)
            case 1:
                del found[place : place + size]
            case _:
                found[place:place] = found[place : place + size] * draw.randint(1, 3)
    return bytes(found)


class Attackers:
    """Hostile connections, one after the other or many at once; how they ended is counted in `ends`."""

    def __init__(self, target: Target, sound: bytes) -> None:
        self._target, self._numbers = target, itertools.count()
        self.ends: Counter[str] = Counter()
        samples = random.Random(0).randbytes(3200)
        text = base64.b64encode(samples).decode()
        audio = f'{{"type": "input_audio_buffer.append", "audio": "{text}"}}'
        self._whole = [
            upload(sound[:2000]),
            upload(sound[:300]),
            upload(bytes(_LARGEST + 2**20)),
            conversation("/", '{"config" : {"sample_rate" : 16000}}', samples, '{"eof" : 1}'),
            conversation("/v1/realtime", audio, '{"type": "input_audio_buffer.commit"}'),
            conversation("/captions/live?rate=44100", samples, "end"),
        ]
        self._command = command(samples)

    async def connect(self, count: int) -> None:
        """So many connections, a few at a time."""
        ahead = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with ahead:
                self.ends[await self._attack(random.Random(next(self._numbers)))] += 1

        await asyncio.gather(*(one() for _ in range(count)))

    async def _attack(self, draw: random.Random) -> str:
        wyoming = draw.random() < 0.2
        request = self._command if wyoming else draw.choices(self._whole, (8, 8, 1, 5, 5, 5))[0]
        request = mutated(request, draw)
        port = self._target.wyoming if wyoming else self._target.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(60):
                return await self._spoken(request, draw.random(), reader, writer)
        except ConnectionError:
            return "cut by the service"
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _spoken(
        self, request: bytes, manner: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str:
        if manner < 0.15:
            writer.write(request[: round(len(request) * manner / 0.15)])
            await writer.drain()
            return "cut by the client"
        if manner < 0.2:
            for letter in request[:60]:
                writer.write(bytes([letter]))
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.write(request[60:] if manner < 0.2 else request)
        await writer.drain()
        answer = await reader.read(4096)
        with suppress(TimeoutError):  # a websocket is left without a goodbye
            async with asyncio.timeout(_LEAVES_AFTER):
                await reader.read()
        return answer[:12].decode("latin-1").strip() or "closed without a word"


async def idle(target: Target, count: int) -> None:
    """Sockets on which nothing is sent, until the service closes them."""
    opened = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(count)]
    for reader, writer in opened:
        assert not await reader.read()
        writer.close()


def ask_on(target: Target, sound: bytes, told: Connection) -> None:
    """The process of the honest client: whenever it is asked, it tells how long it waited for each transcript since."""
    place, seconds, texts = f"http://127.0.0.1:{target.port}/v1/audio/transcriptions", [], set()
    while True:
        began = time.monotonic()
        answer = httpx.post(place, files={"file": ("talk.wav", sound)}, timeout=60)
        seconds.append(time.monotonic() - began)
        texts.add(answer.raise_for_status().json()["text"])
        assert len(texts) == 1
        if told.poll(0.2):
            told.recv()
            told.send(seconds)
            seconds = []


def attack(target: Target, sound: bytes, connections: int, honest: Connection) -> None:
    """All of it, and a row for each tenth."""
    attackers = Attackers(target, sound)

    async def tenth() -> None:
        await asyncio.gather(attackers.connect(connections // 10), idle(target, 200))

    print("| connections | own memory, MB | threads | files | honest client waits: median, s | longest, s |")
    print("|---|---|---|---|---|---|")
    for done in range(0, connections + 1, connections // 10):
        if done:
            asyncio.run(tenth())
        time.sleep(3)
        honest.send("how long?")
        seconds = honest.recv()
        memory, threads, files = target.held()
        waits = f"{statistics.median(seconds):.2f} | {max(seconds):.2f}"
        print(f"| {done} | {memory:.1f} | {threads} | {files} | {waits} |", flush=True)
    print(", ".join(f"{count} {end!r}" for end, count in attackers.ends.most_common()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("recording", type=Path, help="a short one, of some seconds")
    parser.add_argument("--connections", type=int, default=30_000)
    parser.add_argument("--patience", type=float, default=3.0)
    options = parser.parse_args()
    sound, began = options.recording.read_bytes(), time.monotonic()
    with process(serve, options.model, options.patience) as service:
        target = service.recv()
        with process(ask_on, target, sound) as honest:
            attack(target, sound, options.connections, honest)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
