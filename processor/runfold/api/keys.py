"""API keys: how one is made, what is kept of it, and who the bearer of one is.

A key is ``rf-ID-SECRET``: the id finds it, the secret proves it. The store has the secret's SHA-256 alone, which is enough for
256 random bits, and compares in constant time.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from runfold.api.auth import SCOPES, Caller
from runfold.api.errors import Unauthorized
from runfold.api.kept import Kept
from runfold.log.clock import wall_clock
from runfold.store.port import ApiKey, Store

_KEY: Final = re.compile(rb"rf-([a-z0-9]{12})-([A-Za-z0-9_-]{43})")
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_BEARER: Final = b"bearer "
_NO_SECRET: Final = bytes(32)
_SOONEST_LOOK: Final = 0.1
"""Seconds between looks for keys that are not known yet: a new key works at once, and guessing costs the store little."""


def new_key(*, name: str, scopes: Sequence[str], project_id: str | None) -> tuple[str, ApiKey]:
    """A new key: what its bearer is given, which nobody sees again, and what the store keeps.

    Raises ValueError for a key that could not be meant.
    """
    if not scopes or set(scopes) - set(SCOPES):
        raise ValueError(f"one or more of the scopes {', '.join(SCOPES)} are wanted")
    if project_id == "" or (project_id is not None and "admin" in scopes):
        raise ValueError("a project is named by its id, and an admin acts on the whole store: one or the other")
    key_id, secret = "".join(secrets.choice(_ALPHABET) for _ in range(12)), secrets.token_urlsafe(32)
    kept = ApiKey(
        key_id=key_id,
        hash=sha256(secret.encode()).digest(),
        name=name,
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        project_id=project_id,
        created_at=wall_clock(),
    )
    return f"rf-{key_id}-{secret}", kept


class KeyRing(Kept[dict[bytes, ApiKey]]):
    """The store's keys by id. While it has none at all, not even revoked ones, whoever asks is ``without_keys``."""

    def __init__(self, store: Store, *, without_keys: Caller) -> None:
        super().__init__(self._look_up)
        self._store, self._without_keys = store, without_keys
        self._callers: dict[bytes, Caller] = {}

    async def caller(self, authorization: bytes | None) -> Caller:
        """Who bears this ``Authorization``. Raises Unauthorized."""
        if not self.young():
            await self.renew()
        if not self.value:
            return self._without_keys
        if authorization is None:
            raise _unauthorized("You didn't provide an API key: send it as `Authorization: Bearer KEY`.", code=None)
        told = _KEY.fullmatch(authorization[len(_BEARER) :].strip()) if _is_bearer(authorization) else None
        if told is None:
            raise _incorrect()
        if told[1] not in self.value:
            await self.renew_now(pause=_SOONEST_LOOK)
        return self._known(told[1], told[2])

    def _known(self, key_id: bytes, secret: bytes) -> Caller:
        assert self.value is not None
        key = self.value.get(key_id)
        proven = compare_digest(sha256(secret).digest(), _NO_SECRET if key is None else key.hash)
        if key is None or not proven or key.revoked_at is not None:
            raise _incorrect()
        return self._callers[key_id]

    async def _look_up(self) -> dict[bytes, ApiKey]:
        keys = {key.key_id.encode(): key for key in await self._store.keys()}
        self._callers = {
            key_id: Caller(key_id=key.key_id, scopes=frozenset(key.scopes), project_id=key.project_id)
            for key_id, key in keys.items()
        }
        return keys


def _is_bearer(authorization: bytes) -> bool:
    return authorization[: len(_BEARER)].lower() == _BEARER


def _incorrect() -> Unauthorized:
    return _unauthorized("Incorrect API key provided.", code="invalid_api_key")


def _unauthorized(message: str, *, code: str | None) -> Unauthorized:
    return Unauthorized(message, code=code, headers={"www-authenticate": "Bearer"})
