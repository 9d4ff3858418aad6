"""Options that many verbs share: where log and store are, and what a verb prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter, validators

from runfold.config import Settings, load_settings
from runfold.telemetry import configure_logging

_PLACES = Group("Where", sort_key=1)


@Parameter(name="*", group=_PLACES)
@dataclass(frozen=True, kw_only=True)
class Places:
    """Settings that can be given on every command line; the rest are environment variables (``runfold config``)."""

    data: Annotated[str | None, Parameter(help="Folder of the embedded log and store (RUNFOLD_DATA).")] = None
    log: Annotated[str | None, Parameter(help="URL of the log (RUNFOLD_LOG).")] = None
    store: Annotated[str | None, Parameter(help="URL of the store (RUNFOLD_STORE).")] = None
    archive: Annotated[
        str | None, Parameter(help="URL of the archive of what the log has no longer (RUNFOLD_ARCHIVE).")
    ] = None

    def settings(self, more: Mapping[str, str | None] | None = None) -> Settings:
        """The effective settings, with logging set up by them; ``more`` are those of one verb. Raises ConfigError."""
        mine = {"data": self.data, "log": self.log, "store": self.store, "archive": self.archive}
        settings = load_settings({**mine, **(more or {})})
        configure_logging(level=settings.logging_level, style=settings.logging_format)
        return settings


HERE = Places()
"""What a verb takes when none of them is given."""

AsJson = Annotated[bool, Parameter(name="--json", help="JSON Lines on stdout instead of a table.")]
AsOneObject = Annotated[bool, Parameter(name="--json", help="A JSON object on stdout instead of a table.")]
Limit = Annotated[int, Parameter(validator=validators.Number(gte=0), help="How many; 0 is all.")]
Every = Annotated[float, Parameter(validator=validators.Number(gte=0.01), help="Seconds between looks.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], help="Do it without asking.")]


def _is_no_option(_: Any, value: str | Sequence[str] | None) -> None:
    """A lone hyphen is standard input; anything else that begins with one was meant as an option."""
    for name in [value] if isinstance(value, str) else value or ():
        if name.startswith("-") and name != "-":
            raise ValueError(f"Unknown option: {name}.")


InputFile = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_is_no_option, help="A file; - is stdin.")]
