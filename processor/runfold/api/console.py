"""The console at ``/``: pages for looking, made in the browser out of what the API answers.

They are plain files beside this module, and the chart of an installed package; no file comes from anywhere else, which the
policy sent with each holds browsers to. The files themselves tell nothing, so they need no key: what they ask for does.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from importlib.resources import files as resources
from typing import Any, Final

from litestar import Response, Router, get
from litestar.params import FromPath

from runfold.api.errors import NotFound

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS: Final = {"content-security-policy": POLICY, "cache-control": "no-cache"}
_CHART: Final = {"uplot.js": "uPlot.iife.min.js", "uplot.css": "uPlot.min.css"}
_PACKAGE: Final = "metaflow-card-uplot"
_OPEN: Final = {"scope": None, "confined": True}


def is_file(path: str) -> bool:
    """Whether a path is one of the console's own."""
    return path == "/" or path.startswith("/console/")


@lru_cache(maxsize=64)
def _read(name: str) -> bytes | None:
    if name in _CHART:
        return _of_package(_CHART[name])
    folder = resources("runfold.api") / "console_files"
    known = {each.name for each in folder.iterdir()}
    return (folder / name).read_bytes() if name in known else None


def _of_package(name: str) -> bytes | None:
    """A file of the chart's package, found without importing it: that would ask for much more."""
    try:
        found = [each for each in files(_PACKAGE) or () if each.name == name]
    except PackageNotFoundError:
        return None
    return found[0].read_binary() if found else None


def _answer(name: str) -> Response[Any]:
    body = _read(name)
    if body is None:
        raise NotFound(f"There is no '{name}' in the console.", code="unknown_url")
    return Response(body, media_type=_TYPES[name.rpartition(".")[2]], headers=_HEADERS)


@get("/", opt=_OPEN, include_in_schema=False)
async def page() -> Response[Any]:
    """The console."""
    return _answer("index.html")


@get("/console/{name:str}", opt=_OPEN, include_in_schema=False)
async def part(name: FromPath[str]) -> Response[Any]:
    """A file of the console."""
    return _answer(name)


router = Router("/", route_handlers=[page, part])
