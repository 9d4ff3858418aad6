"""How Kafka is reached: what a ``kafka://`` URL says, and the settings that go beside it, named as Kafka's tools name them.

Plain data, so that settings can be read where aiokafka is not installed. A new option is a field here, a row in
``runfold.config`` and its use in the one ``kafka_*`` module it concerns. Times are in milliseconds, as in Kafka.
"""

from __future__ import annotations

import re

from msgspec import Struct

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:,/\[\]]+)(?::[0-9]{1,5})?")


class KafkaOptions(Struct, frozen=True, kw_only=True):
    """What producers and consumers of Kafka are told. Empty text is not set."""

    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = ""
    sasl_oauthbearer_token_endpoint_url: str = ""
    sasl_oauthbearer_client_id: str = ""
    sasl_oauthbearer_client_secret: str = ""
    sasl_oauthbearer_scope: str = ""
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_password: str = ""
    group_id: str = "runfold"
    client_id: str = "runfold"
    client_rack: str = ""
    compression_type: str = "lz4"
    batch_size: int = 400_000
    request_timeout_ms: int = 30_000
    delivery_timeout_ms: int = 60_000
    max_partition_fetch_bytes: int = 1_048_576
    fetch_max_bytes: int = 52_428_800


class Address(Struct, frozen=True):
    """Where a log is: servers as ``host:port,host:port``, and its topic."""

    servers: str
    topic: str


def address_of(url: str) -> Address:
    """Take apart ``kafka://HOST[:PORT][,HOST[:PORT]...]/TOPIC``. Raises ValueError that says what is wanted."""
    scheme, separator, rest = url.partition("://")
    servers, slash, topic = rest.partition("/")
    well_formed = scheme == "kafka" and separator and slash and all(map(_SERVER.fullmatch, servers.split(",")))
    if not well_formed or not _TOPIC.fullmatch(topic) or topic in {".", ".."}:
        raise ValueError("kafka://HOST:9092/TOPIC is wanted, or several servers: kafka://HOST:9092,HOST:9092/TOPIC")
    return Address(",".join(each if _has_port(each) else f"{each}:9092" for each in servers.split(",")), topic)


def _has_port(server: str) -> bool:
    return ":" in server.rpartition("]")[2]
