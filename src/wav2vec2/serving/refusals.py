"""What a client did wrong, or why the service cannot help, in the shape that OpenAI's clients read."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class RefusedError(Exception):
    """Why a request is not answered: an HTTP status, a sentence, a code for programs, and the field that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """The object that says it."""
        kind = "server_error" if self.status >= 500 else _KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The whole answer."""
        return JSONResponse(self.content(), self.status, self.headers)


_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

#: OpenAI's clients try again after 408, 409, 429 and 500 and above. Where that cannot help they are told not to.
NOT_AGAIN = {"x-should-retry": "false"}


async def refuse(request: Request, error: Exception) -> Response:
    """The answer to a request that a handler refused."""
    assert isinstance(error, RefusedError)
    return error.response()


async def refuse_address(request: Request, error: Exception) -> Response:
    """The answer to a request for an address that is not there, or not by that method."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return RefusedError(error.status_code, message, headers=error.headers).response()


async def refuse_for_a_fault(request: Request, error: Exception) -> Response:
    """The answer where the program itself is at fault. What the fault was is in the log, not in the answer."""
    return RefusedError(500, "the service failed at this request; its log says more", "internal_error").response()
