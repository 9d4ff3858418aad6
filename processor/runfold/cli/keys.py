"""``runfold keys``: who may ask over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from runfold.api.keys import new_key
from runfold.cli.exits import DONE, NoError, WrongUseError
from runfold.cli.opening import reading_store, writing_store
from runfold.cli.options import HERE, AsJson, AsOneObject, Places
from runfold.cli.printing import print_json, print_line, print_table, shown_time, tell
from runfold.config import Settings
from runfold.store.port import ApiKey

app = App(name="keys", help="Create, list and revoke API keys.", default_parameter=Parameter(negative=()))

Scope = Literal["read", "publish", "admin"]
_ROW = ("key", "name", "scopes", "project", "created (UTC)", "revoked (UTC)")


@app.command
def create(
    name: Annotated[str, Parameter(help="Whom or what it is for.")] = "",
    /,
    *,
    scope: Annotated[tuple[Scope, ...], Parameter(help="What it may do; again for more.")] = ("read",),
    project: Annotated[str | None, Parameter(help="Confine it to this project's runs.")] = None,
    json: AsOneObject = False,
    places: Places = HERE,
) -> int:
    """Make a key and show it, once: the store keeps a hash of it alone.

    With the first key, nobody is answered any more without one.
    """
    try:
        shown, key = new_key(name=name, scopes=scope, project_id=project)
    except ValueError as error:
        raise WrongUseError(str(error)) from error
    asyncio.run(_add(places.settings(), key))
    if json:
        print_json({"key": shown, **_as_dict(key)})
    else:
        print_line(shown)
        tell("keep it: it is not shown again")
    return DONE


@app.command(name="list")
def list_keys(*, json: AsJson = False, places: Places = HERE) -> int:
    """All keys, revoked ones too; never their secrets."""
    keys = asyncio.run(_keys(places.settings()))
    if json:
        print_json(*map(_as_dict, keys))
    else:
        print_table(_ROW, map(_row, keys))
    return DONE


@app.command
def revoke(key_id: str, /, *, places: Places = HERE) -> int:
    """End a key, by the id that `list` shows. Servers heed it within a second."""
    asyncio.run(_revoke(places.settings(), key_id))
    tell(f"{key_id} is revoked")
    return DONE


async def _add(settings: Settings, key: ApiKey) -> None:
    async with writing_store(settings) as store:
        await store.add_key(key)


async def _keys(settings: Settings) -> list[ApiKey]:
    async with reading_store(settings) as store:
        return await store.keys()


async def _revoke(settings: Settings, key_id: str) -> None:
    async with writing_store(settings) as store:
        if not await store.revoke_key(key_id):
            raise NoError(f"there is no key {key_id!r}; `runfold keys list` shows them")


def _row(key: ApiKey) -> tuple[object, ...]:
    made, ended = shown_time(key.created_at), shown_time(key.revoked_at)
    return key.key_id, key.name, ", ".join(key.scopes), key.project_id, made, ended


def _as_dict(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "name": key.name,
        "scopes": key.scopes,
        "project_id": key.project_id,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
