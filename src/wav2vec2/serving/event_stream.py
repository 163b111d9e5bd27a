"""An answer that is sent piece by piece: server-sent events, each an object."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import Send


class EventStream:
    """Sends events; the answer begins with the first."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        shown = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"} | dict(headers)
        self.begun = False
        self._send, self._headers = send, [(name.encode(), value.encode()) for name, value in shown.items()]

    async def send(self, event: Mapping[str, Any], more: bool = True) -> None:
        """One event."""
        if not self.begun:
            self.begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        body = f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def end(self, event: Mapping[str, Any]) -> None:
        """The last event."""
        await self.send(event, more=False)
