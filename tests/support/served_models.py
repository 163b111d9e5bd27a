"""A service in a thread of this process, on a port of its own; what it holds open can be counted."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from wav2vec2 import Transcriber
from wav2vec2.serving.application import Service
from wav2vec2.serving.running import address_of, listening_socket, server_of
from wav2vec2.serving.settings import ServiceSettings


@dataclass
class Served:
    """A running service."""

    service: Service
    #: Where it is, as http://host:port.
    address: str
    #: The loop that it runs in.
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def wyoming_port(self) -> int:
        assert self.service.wyoming is not None and self.service.wyoming.socket is not None
        return int(self.service.wyoming.socket.getsockname()[1])

    def post(self, sound: bytes, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """Ask for a transcript."""
        place = f"{self.address}/v1/audio/transcriptions"
        return httpx.post(place, files={"file": ("talk.wav", sound)}, data=fields, headers=headers, timeout=60)

    def held(self) -> dict[str, int]:
        """Threads, tasks of the loop, and open files of this process."""
        tasks = len(asyncio.all_tasks(self.loop))
        return {"threads": threading.active_count(), "tasks": tasks, "files": len(os.listdir("/proc/self/fd"))}

    def settles_at(self, before: dict[str, int], seconds: float = 20.0) -> bool:
        """Whether no more is held than before, after some seconds at most."""
        end = time.monotonic() + seconds
        while any(count > before[kind] for kind, count in self.held().items()):
            if time.monotonic() > end:
                raise AssertionError(f"held before: {before}, now: {self.held()}, {threading.enumerate()}")
            time.sleep(0.05)
        return True


@contextmanager
def served(transcriber: Transcriber, wyoming: bool = False, **settings: Any) -> Iterator[Served]:
    """The service of a model, ended as a signal ends it."""
    chosen: dict[str, Any] = {
        "names": ("small",),
        "port": 0,
        "wyoming_port": 0 if wyoming else None,
        "stopping_seconds": 5.0,
    }
    chosen |= settings
    service = Service(transcriber, ServiceSettings(**chosen))
    with listening_socket("127.0.0.1", 0) as listening, listening_socket("127.0.0.1", 0) as for_wyoming:
        if service.wyoming is not None:
            service.wyoming.socket = for_wyoming
        server = server_of(service)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve([listening])))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                threading.Event().wait(0.01)
            yield Served(service, address_of(listening), loop)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
