"""The API put together: the framework with its rooms, and the door in front of it."""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar, Request, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Scope

from runfold import __version__
from runfold.api import auth, errors
from runfold.api.api import Api
from runfold.api.auth import Caller
from runfold.api.documented import MoneyAsNumber
from runfold.api.door import Door
from runfold.api.parameters import check_parameters
from runfold.api.rooms import ROUTERS

DOCUMENT: Final = "/openapi.json"


def create_app(api: Api, *, beyond_loopback: bool = False) -> Door:
    """The ASGI application. Its resources are open, and stay so until it is done; ``beyond_loopback``: strangers may ask."""
    return Door(framework(api), api, beyond_loopback=beyond_loopback)


def framework(api: Api) -> Litestar:
    """The framework with every room. It expects the door to have found out who asks."""

    def give_api() -> Api:
        return api

    origins = [origin.strip() for origin in api.settings.api.origins.split(",") if origin.strip()]
    return Litestar(
        route_handlers=list(ROUTERS),
        dependencies={"api": Provide(give_api, sync_to_thread=False), "caller": Provide(_caller, sync_to_thread=False)},
        guards=[auth.check_scope, check_parameters],
        exception_handlers=errors.HANDLERS,
        request_max_body_size=api.settings.api.largest_body,
        cors_config=CORSConfig(allow_origins=origins) if origins else None,
        plugins=[MoneyAsNumber()],
        openapi_config=_openapi(),
        logging_config=None,
        debug=False,
    )


def _caller(scope: Scope) -> Caller:
    caller = scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


async def _only_the_document(request: Request[Any, Any, Any]) -> None:
    """The framework puts pages of its own, in HTML, below the document."""
    if request.url.path != DOCUMENT:
        raise NotFoundException


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="runfold",
        version=__version__,
        openapi_router=Router(
            DOCUMENT,
            route_handlers=[],
            include_in_schema=False,
            opt={"confined": True},
            before_request=_only_the_document,
        ),
        render_plugins=[JsonRenderPlugin(path="/")],
        use_handler_docstrings=True,
        components=Components(security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"key": []}],
    )
