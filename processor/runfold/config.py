"""Settings: what can be set, by which environment variable, and what it is when nobody sets it.

A setting comes from the command line, else from the environment, else from its default; ``runfold config`` shows which.
Everything that is wrong is told at once, each with its variable and the remedy. To add a setting, add a row to
``SETTINGS`` and a field to :class:`Settings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct, field

from runfold.api_options import ApiOptions
from runfold.fold.rules import DEFAULT_RULES, MOST_EVENTS, Rules
from runfold.fold.short_cut import BUILT
from runfold.log.kafka_options import COMPRESSIONS, MECHANISMS, PROTOCOLS, KafkaOptions, address_of
from runfold.log.sqlite_file import MOST_PARTITIONS

OFF = "off"
"""What switches off something that would listen."""


class ConfigError(Exception):
    """Settings that cannot be used: one line each, with the variable and the remedy (exit code 2)."""


class Setting(NamedTuple):
    """One row: its field in :class:`Settings`, its variable, how text becomes a value, and what it is for."""

    name: str
    variable: str
    parse: Callable[[str], Any]
    default: str
    help: str
    secret: bool = False


class Settings(Struct, frozen=True, kw_only=True):
    """The effective settings. ``origins`` says of each where it came from. Times are in seconds, sizes in bytes."""

    data: Path
    log: str
    archive: str
    store: str
    partitions: int
    batch_records: int
    batch_bytes: int
    batch_linger: float
    open_runs: int
    compiled: str
    lease: float
    drain: float
    patience: float
    health: str
    stuck: float
    ready_lag: float
    rules: Rules
    kafka: KafkaOptions
    api: ApiOptions
    prices: str
    logging_level: str
    logging_format: str
    origins: dict[str, str] = field(default_factory=dict)


def _count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text.replace("_", "")) if _WHOLE.fullmatch(text) else -1
        if not least <= number <= most:
            raise ValueError(f"a whole number from {least:,} to {most:,} is wanted")
        return number

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            seconds = float(text) if text.isascii() else -1.0
        except ValueError:
            seconds = -1.0
        if not least <= seconds <= most:
            raise ValueError(f"seconds from {least:g} to {most:g} are wanted")
        return seconds

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        chosen = next((choice for choice in choices if choice.lower() == text.lower()), None)
        if chosen is None:
            raise ValueError(f"one of {', '.join(choices)} is wanted")
        return chosen

    return parse


def _compiled(text: str) -> str:
    chosen = _one_of("auto", "yes", "no")(text)
    if chosen == "yes" and not BUILT:
        raise ValueError("it was not built; install runfold again where there are a C compiler and Python's headers")
    return "no" if chosen == "no" or not BUILT else "yes"


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        scheme, separator, rest = text.partition("://")
        if separator and scheme not in schemes:
            raise ValueError(f"this version knows no {scheme}://, only {_examples(schemes)}")
        if not separator or not rest.strip("/"):
            raise ValueError(f"a URL is wanted, such as {_examples(schemes)}")
        if scheme == "kafka":
            address_of(text)
        return text

    return parse


def _examples(schemes: Sequence[str]) -> str:
    return " or ".join(_EXAMPLES[scheme] for scheme in schemes if scheme in _EXAMPLES)


def _name(text: str) -> str:
    if not text or len(text) > 64:
        raise ValueError("a name of 1 to 64 characters is wanted")
    return text


def _text(text: str) -> str:
    return text


def _web_address(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise ValueError("an https:// URL is wanted")
    return text


def _place_to_listen(text: str) -> str:
    if text.lower() == OFF:
        return OFF
    host, _, port = text.rpartition(":")
    if not host.strip("[]") or not _WHOLE.fullmatch(port) or int(port) > 65535:
        raise ValueError("HOST:PORT or off is wanted, such as 127.0.0.1:8001 or [::1]:8001")
    return text


def _kafka(name: str, parse: Callable[[str], Any], told: str, *, secret: bool = False) -> Setting:
    """A row named as Kafka's tools name it: ``sasl.mechanism`` is RUNFOLD_KAFKA_SASL_MECHANISM."""
    field_name = name.replace(".", "_")
    default = str(getattr(KafkaOptions(), field_name))
    return Setting(f"kafka.{field_name}", f"RUNFOLD_KAFKA_{field_name.upper()}", parse, default, told, secret)


def _api(name: str, parse: Callable[[str], Any], told: str, *, secret: bool = False) -> Setting:
    return Setting(f"api.{name}", f"RUNFOLD_API_{name.upper()}", parse, str(getattr(ApiOptions(), name)), told, secret)


_EXAMPLES = {
    "sqlite": "sqlite:///runfold.db",
    "kafka": "kafka://localhost:9092/run-events",
    "archive": "archive:///runfold-archive",
    "postgresql": "postgresql://user@host/database",
}
_RULES, _KAFKA, _API = "rules.", "kafka.", "api."
_WHOLE = re.compile(r"[0-9][0-9_]{0,20}")

SETTINGS = (
    Setting("data", "RUNFOLD_DATA", Path, "runfold-data", "folder of the embedded log and store"),
    Setting(
        "log",
        "RUNFOLD_LOG",
        _url("sqlite", "kafka", "archive"),
        "",
        "the log: sqlite:///FILE, kafka://HOST:9092/TOPIC or archive:///FOLDER; by default runfold.log.db in the data folder",
    ),
    Setting(
        "archive", "RUNFOLD_ARCHIVE", _url("archive"), "", "archive:///FOLDER: what the log has no longer is read there"
    ),
    Setting(
        "store",
        "RUNFOLD_STORE",
        _url("sqlite", "postgresql", "postgres"),
        "",
        "the store: sqlite:///FILE or postgresql://...; by default runfold.db in the data folder",
    ),
    Setting(
        "partitions",
        "RUNFOLD_PARTITIONS",
        _count(1, MOST_PARTITIONS),
        "4",
        "partitions of an embedded log that is made anew",
    ),
    Setting(
        "batch_records",
        "RUNFOLD_BATCH_RECORDS",
        _count(1, 1_000_000),
        "40000",
        "most records folded in one transaction",
    ),
    Setting("batch_bytes", "RUNFOLD_BATCH_BYTES", _count(1, 2**31), "16000000", "most bytes of them"),
    Setting("batch_linger", "RUNFOLD_BATCH_LINGER", _seconds(0, 60), "0.002", "seconds a batch waits for more records"),
    Setting(
        "open_runs", "RUNFOLD_OPEN_RUNS", _count(100, 10_000_000), "20000", "open runs kept in memory, a partition"
    ),
    Setting(
        "compiled",
        "RUNFOLD_COMPILED",
        _compiled,
        "auto",
        "the compiled fold: auto (where it was built), yes or no; results are the same, speed is not",
    ),
    Setting(
        "lease", "RUNFOLD_LEASE", _seconds(1, 3600), "10", "seconds a partition stays with a worker that is silent"
    ),
    Setting("drain", "RUNFOLD_DRAIN", _seconds(0.1, 3600), "10", "seconds that stopping may take"),
    Setting(
        "patience", "RUNFOLD_PATIENCE", _seconds(0, 86400), "30", "seconds of failing commits before serve gives up"
    ),
    Setting(
        "health",
        "RUNFOLD_HEALTH",
        _place_to_listen,
        "127.0.0.1:8001",
        "where serve answers /healthz, /readyz and /metrics: HOST:PORT (port 0: a free one, told in the log), or off",
    ),
    Setting("stuck", "RUNFOLD_STUCK", _seconds(1, 86400), "60", "seconds of standing still until that is called stuck"),
    Setting(
        "ready_lag", "RUNFOLD_READY_LAG", _seconds(0, 86400), "30", "most seconds of lag of a service that is ready"
    ),
    Setting(
        "rules.project_key",
        "RUNFOLD_PROJECT_KEY",
        _name,
        DEFAULT_RULES.project_key,
        "metadata key that names the project",
    ),
    Setting("rules.user_key", "RUNFOLD_USER_KEY", _name, DEFAULT_RULES.user_key, "metadata key that names the user"),
    Setting(
        "rules.api_key_key",
        "RUNFOLD_API_KEY_KEY",
        _name,
        DEFAULT_RULES.api_key_key,
        "metadata key that names the API key",
    ),
    Setting(
        "rules.largest_value",
        "RUNFOLD_LARGEST_VALUE",
        _count(1000, 16 * 2**20),  # what files of events are read by: see log.message_frames
        str(DEFAULT_RULES.largest_value),
        "most bytes of an event",
    ),
    Setting(
        "rules.most_events",
        "RUNFOLD_MOST_EVENTS",
        _count(10, MOST_EVENTS - DEFAULT_RULES.most_corrections),
        str(DEFAULT_RULES.most_events),
        "most events of a run",
    ),
    _kafka("security.protocol", _one_of(*PROTOCOLS), "how connections to Kafka are secured"),
    _kafka("sasl.mechanism", _one_of(*MECHANISMS), "how to log in, with SASL_PLAINTEXT and SASL_SSL"),
    _kafka("sasl.username", _text, "who logs in, with PLAIN and SCRAM"),
    _kafka("sasl.password", _text, "the password of that user", secret=True),
    _kafka("sasl.oauthbearer.token.endpoint.url", _web_address, "where tokens come from, with OAUTHBEARER"),
    _kafka("sasl.oauthbearer.client.id", _text, "who asks for a token"),
    _kafka("sasl.oauthbearer.client.secret", _text, "the secret of that client", secret=True),
    _kafka("sasl.oauthbearer.scope", _text, "what the token is asked for"),
    _kafka("ssl.cafile", _text, "certificates (PEM) that sign the brokers'; else those of the system"),
    _kafka("ssl.certfile", _text, "our own certificate (PEM), where brokers want one"),
    _kafka("ssl.keyfile", _text, "its key (PEM), where it is in a file of its own"),
    _kafka("ssl.password", _text, "the password of the key", secret=True),
    _kafka("group.id", _name, "under which name Kafka's tools show how far the log is read"),
    _kafka("client.id", _name, "under which name brokers log what is asked"),
    _kafka("client.rack", _text, "where we are, to read from replicas near by"),
    _kafka("compression.type", _one_of(*COMPRESSIONS), "how batches are compressed"),
    _kafka("batch.size", _count(1_000, 100_000_000), "most bytes of a batch, before it is compressed"),
    _kafka("request.timeout.ms", _count(1_000, 600_000), "milliseconds that Kafka may take for an answer"),
    _kafka("delivery.timeout.ms", _count(1_000, 600_000), "milliseconds until publishing gives up"),
    _kafka("max.partition.fetch.bytes", _count(10_000, 2**30), "most bytes of one partition in an answer"),
    _kafka("fetch.max.bytes", _count(10_000, 2**30), "most bytes of an answer"),
    _api("host", _text, "where the API listens"),
    _api("port", _count(0, 65_535), "at which port; 0 is any that is free"),
    _api("workers", _count(1, 256), "processes that answer, of `runfold api`"),
    _api("hosts", _text, "names by which the API may be asked, beside its own, comma-separated; * is any"),
    _api("origins", _text, "web origins whose pages may ask (CORS), comma-separated"),
    _api("rate", _seconds(0, 1_000_000), "requests a second for each key; 0 sets no bound"),
    _api("largest_body", _count(1_000, 2**30), "most bytes of a request"),
    _api("time_limit", _seconds(0.1, 3600), "seconds until an answer has to begin"),
    _api("silent", _seconds(1, 31_536_000), "seconds after which an open run that nothing is heard of is stuck"),
    _api("stream", _seconds(0.1, 86_400), "seconds after which a reader of the feed is asked to come back"),
    _api("slow", _seconds(0.1, 3600), "seconds after which a reader of the feed that takes nothing is dropped"),
    _api("url", _web_address, "an API that `runfold runs watch` follows, in place of the store"),
    _api("key", _text, "the key that it shows there", secret=True),
    Setting("prices", "RUNFOLD_PRICES", _text, "", "a price list of one's own, in CSV: see docs/costs.md"),
    Setting(
        "logging_level",
        "RUNFOLD_LOGGING_LEVEL",
        _one_of("debug", "info", "warning", "error"),
        "info",
        "least level logged",
    ),
    Setting(
        "logging_format",
        "RUNFOLD_LOGGING_FORMAT",
        _one_of("auto", "json", "console"),
        "auto",
        "auto: console on a terminal, else json",
    ),
)


def load_settings(
    given: Mapping[str, str | None] | None = None, *, environment: Mapping[str, str] | None = None
) -> Settings:
    """The effective settings. ``given`` is what the command line says, by name; None there is not given.

    Raises ConfigError that names every setting that is wrong.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems = [
        f"{name}: no such setting; `runfold config` lists them"
        for name in sorted(environment)
        if name.startswith("RUNFOLD_") and name not in _KNOWN
    ]
    for setting in SETTINGS:
        text, origin = _told(setting, given or {}, environment)
        origins[setting.name] = origin
        try:
            values[setting.name] = setting.parse(text) if text or setting.default else ""
        except ValueError as error:
            problems.append(f"{setting.variable} ({origin}): {without_password(text)!r}: {error}")
    rules = _rules(values, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    data: Path = values["data"]
    values["log"] = values["log"] or f"sqlite:///{data / 'runfold.log.db'}"
    values["store"] = values["store"] or f"sqlite:///{data / 'runfold.db'}"
    kafka = KafkaOptions(**_taken(values, _KAFKA))
    api = ApiOptions(**_taken(values, _API))
    return Settings(**values, rules=rules, kafka=kafka, api=api, origins=origins)


def effective(settings: Settings) -> list[tuple[Setting, str, str]]:
    """Each setting with its effective value, secrets masked, and where it came from."""
    rows = []
    for setting in SETTINGS:
        value = without_password(str(attrgetter(setting.name)(settings)))
        rows.append((setting, "********" if setting.secret and value else value, settings.origins[setting.name]))
    return rows


def without_password(text: str) -> str:
    """A URL with the password in it masked; anything else as it is."""
    return _PASSWORD.sub(r"\1\4********\3", text)


def _rules(values: dict[str, Any], problems: list[str]) -> Rules:
    """Take the fold's settings out of ``values``; what they cannot be together joins the problems."""
    try:
        return Rules(**_taken(values, _RULES))
    except ValueError as error:
        variables = ", ".join(setting.variable for setting in SETTINGS if setting.name.startswith(_RULES))
        problems.append(f"{variables}: {error}")
        return DEFAULT_RULES


def _taken(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take what begins with the prefix out of ``values``, under the names behind it."""
    return {name.removeprefix(prefix): values.pop(name) for name in list(values) if name.startswith(prefix)}


def _told(setting: Setting, given: Mapping[str, str | None], environment: Mapping[str, str]) -> tuple[str, str]:
    on_command_line = given.get(setting.name)
    if on_command_line is not None:
        return on_command_line, "command line"
    if environment.get(setting.variable):
        return environment[setting.variable], "environment"
    return setting.default, "default"


_PASSWORD = re.compile(r"(://[^/?#@:]*:)(.*)(@)|([?&]password=)([^&]*)")
_KNOWN = frozenset(setting.variable for setting in SETTINGS)
