"""How a connection to Kafka is secured: options of ours to arguments that all of aiokafka's clients take.

TLS is checked against the host name, always. A token of OAUTHBEARER comes from the provider's own endpoint by the client
credentials grant, as Kafka's tools get it with the same settings, and is asked for anew shortly before it ends.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from aiokafka.abc import AbstractTokenProvider

from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.port import LogError

_TOKEN_SECONDS = 10.0
_RENEW_BEFORE = 0.2
"""Of a token's life: asked for anew when this share is left, so that no connection is refused for seconds."""


def client_arguments(address: Address, options: KafkaOptions) -> dict[str, Any]:
    """The arguments that consumer, producer and client have in common. Raises LogError where a file cannot be used."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": address.servers,
        "client_id": options.client_id,
        "request_timeout_ms": options.request_timeout_ms,
        "security_protocol": options.security_protocol,
        "metadata_max_age_ms": 60_000,
    }
    if options.security_protocol in {"SSL", "SASL_SSL"}:
        arguments["ssl_context"] = _ssl_context(options)
    if options.security_protocol.startswith("SASL"):
        arguments |= _sasl_arguments(options)
    return arguments


def _ssl_context(options: KafkaOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ssl_cafile or None)
    except (OSError, ssl.SSLError) as error:
        raise LogError(f"RUNFOLD_KAFKA_SSL_CAFILE: {options.ssl_cafile}: {error}") from error
    if options.ssl_certfile:
        try:
            # Without a password OpenSSL would ask the terminal for one.
            context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile or None, options.ssl_password)
        except (OSError, ssl.SSLError) as error:
            raise LogError(
                f"RUNFOLD_KAFKA_SSL_CERTFILE, _KEYFILE, _PASSWORD: {options.ssl_certfile} cannot be used: {error}"
            ) from error
    return context


def _sasl_arguments(options: KafkaOptions) -> dict[str, Any]:
    arguments: dict[str, Any] = {"sasl_mechanism": options.sasl_mechanism}
    if options.sasl_mechanism == "OAUTHBEARER":
        if not options.sasl_oauthbearer_token_endpoint_url:
            raise LogError("RUNFOLD_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: is wanted for OAUTHBEARER")
        return arguments | {"sasl_oauth_token_provider": TokenProvider(options)}
    if not options.sasl_username or not options.sasl_password:
        raise LogError(
            f"RUNFOLD_KAFKA_SASL_USERNAME, RUNFOLD_KAFKA_SASL_PASSWORD: are wanted for {options.sasl_mechanism}"
        )
    return arguments | {"sasl_plain_username": options.sasl_username, "sasl_plain_password": options.sasl_password}


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Tokens of one identity, each kept for most of its life. ``clock`` gives seconds that never go back."""

    def __init__(self, options: KafkaOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._options, self._clock = options, clock
        self._token, self._renew_at = "", 0.0
        self._asking = asyncio.Lock()  # many connections, one question

    async def token(self) -> str:
        """A token that is good for a while yet. Raises TokenRefused where the endpoint gives none."""
        async with self._asking:
            if not self._token or self._clock() >= self._renew_at:
                asked_at = self._clock()
                self._token, life = await asyncio.to_thread(self._ask)
                self._renew_at = asked_at + life * (1 - _RENEW_BEFORE)
            return self._token

    def _ask(self) -> tuple[str, float]:
        options = self._options
        form = {
            "grant_type": "client_credentials",
            "client_id": options.sasl_oauthbearer_client_id,
            "client_secret": options.sasl_oauthbearer_client_secret,
        }
        if options.sasl_oauthbearer_scope:
            form["scope"] = options.sasl_oauthbearer_scope
        url = options.sasl_oauthbearer_token_endpoint_url
        request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())  # noqa: S310 - config.py checks it
        try:
            with urllib.request.urlopen(request, timeout=_TOKEN_SECONDS) as response:  # noqa: S310
                told = json.load(response)
            return str(told["access_token"]), float(told.get("expires_in", 300))
        except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError) as error:
            raise TokenRefused(
                f"RUNFOLD_KAFKA_SASL_OAUTHBEARER_*: {url} gives no token: {type(error).__name__}: {error}"
            ) from error


class TokenRefused(OSError):
    """The endpoint gives no token: to aiokafka a connection that failed, for anything else would end its tasks for good."""
