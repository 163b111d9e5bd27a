"""Figures of a running service, as Prometheus reads them."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: How Prometheus' text format is called.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Upper ends of the classes that the times of answers are counted in, in seconds.
_CLASSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """Counts requests by place and status, and how long they took; asks `gauges` for the rest when it is read.

    A gauge is a function by its name and what it means; a name that ends in _total is a counter.
    """

    def __init__(self, places: frozenset[str], gauges: Mapping[tuple[str, str], Callable[[], float]]) -> None:
        self._places, self._gauges = places, gauges
        self._requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._within: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_CLASSES) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def count(self, path: str, status: int, seconds: float) -> None:
        """One request was answered. All addresses that are not there are one place, so that nobody can make more."""
        place = path if path in self._places else "other"
        self._requests[place, status] += 1
        self._seconds[place] += seconds
        for number, limit in enumerate((*_CLASSES, float("inf"))):
            self._within[place][number] += seconds <= limit

    def text(self) -> str:
        """All of it."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for (name, meaning), value in self._gauges.items():
            yield f"# HELP {name} {meaning}"
            yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
            yield f"{name} {value():.10g}"
        name = "wav2vec2_requests_total"
        yield f"# HELP {name} Requests answered, websockets among them, by place and status."
        yield f"# TYPE {name} counter"
        for (place, status), count in sorted(self._requests.items()):
            yield f'{name}{{place="{place}",status="{status}"}} {count}'
        name = "wav2vec2_request_seconds"
        yield f"# HELP {name} Time from a request to the end of its answer."
        yield f"# TYPE {name} histogram"
        for place, counts in sorted(self._within.items()):
            for limit, count in zip((*map(str, _CLASSES), "+Inf"), counts, strict=True):
                yield f'{name}_bucket{{place="{place}",le="{limit}"}} {count}'
            yield f'{name}_sum{{place="{place}"}} {self._seconds[place]:.6f}'
            yield f'{name}_count{{place="{place}"}} {counts[-1]}'


class Measured:
    """Counts what the application inside answers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 499  # of a client that left before there was an answer, as nginx says

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.count(scope["path"], status, time.monotonic() - began)
