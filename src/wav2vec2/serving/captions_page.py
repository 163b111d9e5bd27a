"""The captions page: files beside this module, which need nothing from elsewhere."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wav2vec2.serving.refusals import RefusedError

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

#: Nothing is loaded from elsewhere or sent there, and no other page may hold this one.
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class CaptionsPage:
    """Gives the files of the page."""

    def __init__(self) -> None:
        there = files("wav2vec2.serving").joinpath("captions").iterdir()
        self._files = {file.name: file.read_bytes() for file in there if file.name.rpartition(".")[2] in _KINDS}

    @property
    def places(self) -> frozenset[str]:
        """The addresses of the page and its files."""
        return frozenset({"/captions", "/captions/", *(f"/captions/{name}" for name in self._files)})

    async def file(self, request: Request) -> Response:
        """The file that is named, or the page itself."""
        name = request.path_params.get("name") or "index.html"
        if name not in self._files:
            raise RefusedError(404, f"{request.url.path}: Not Found")
        kind = f"{_KINDS[name.rpartition('.')[2]]}; charset=utf-8"
        return Response(self._files[name], 200, _HEADERS, kind)

    async def begin(self, request: Request) -> Response:
        """Addresses in the page are those of its folder, so it must end in a stroke."""
        return RedirectResponse("/captions/")
