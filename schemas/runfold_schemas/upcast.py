"""Old shapes of events, and the pure functions that turn each into the next newer one.

A shape is changed by adding a field with a default to its struct in :mod:`runfold_schemas.events`. What cannot be said
that way is a breaking change: the new struct gets a new tag (``thread.run.completed`` is version 1 of its fact,
``thread.run.completed.2`` version 2), the old struct moves here and stays for ever, with an :class:`Upcaster` that leads
one version up. Logs keep the old bytes; readers only ever see current structs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from msgspec import Struct

from runfold_schemas.events import Event, RunCompleted, Tokens, Usage


class BrokenChain(Exception):
    """The upcasters do not lead from every old version to a current one; the message names what is missing."""


class Upcaster(NamedTuple):
    """One step up: ``upcast`` takes an event of the struct ``old`` and returns one of the struct ``new``.

    It is pure and may raise ValueError for an event that has no meaning in the new shape: that one is malformed.
    """

    old: type[Event]
    new: type[Event]
    upcast: Callable[[Any], Event]


class UsageVersion0(Struct, frozen=True, kw_only=True, gc=False):
    """Usage under the names of the Responses API: what is now prompt was input, what is now completion was output."""

    input_tokens: Tokens
    output_tokens: Tokens


class RunCompletedVersion0(Event, frozen=True, kw_only=True, gc=False, tag="thread.run.completed.0"):
    """The shape that was drafted before the first release, kept as the chain's worked example.

    It named tokens as the Responses API does and had no total. Version 1 speaks the Assistants API's language.
    """

    usage: UsageVersion0 | None = None


def _completed_from_version_0(old: RunCompletedVersion0) -> RunCompleted:
    usage = (
        None
        if old.usage is None
        else Usage(
            prompt_tokens=old.usage.input_tokens,
            completion_tokens=old.usage.output_tokens,
            total_tokens=old.usage.input_tokens + old.usage.output_tokens,
        )
    )
    return RunCompleted(
        run_id=old.run_id,
        thread_id=old.thread_id,
        id=old.id,
        occurred_at=old.occurred_at,
        source=old.source,
        sequence=old.sequence,
        approximate=old.approximate,
        usage=usage,
    )


UPCASTERS: tuple[Upcaster, ...] = (Upcaster(RunCompletedVersion0, RunCompleted, _completed_from_version_0),)


def check_chain(current: Iterable[type[Event]], upcasters: Iterable[Upcaster]) -> None:
    """Raise BrokenChain unless every version below each current struct's leads up to it, one step at a time.

    Version 0, a draft, may be left out; from version 1 on none may.
    """
    known = {tag_of(struct) for struct in current}
    steps = {tag_of(step.old): tag_of(step.new) for step in upcasters}
    for old, new in steps.items():
        fact, version = version_of(old)
        if version_of(new) != (fact, version + 1):
            raise BrokenChain(f"{old} is upcast to {new}, which is not the next version of {fact}")
        if new not in known and new not in steps:
            raise BrokenChain(f"{old} is upcast to {new}, which is neither a current event nor upcast any further")
        if old in known:
            raise BrokenChain(f"{old} is both a current event and upcast to {new}")
    for tag in known:
        fact, version = version_of(tag)
        for lower in range(1, version):
            if (old := tag_with(fact, lower)) not in steps:
                raise BrokenChain(f"{tag} is current, but nothing upcasts {old}: events of that version would be lost")


def tag_of(struct: type[Struct]) -> str:
    """The tag that tells this struct from others on the wire."""
    return str(struct.__struct_config__.tag)


def version_of(tag: str) -> tuple[str, int]:
    """The fact a tag speaks of, and the version of its shape: 1 where the tag does not end in a number."""
    fact, _, version = tag.rpartition(".")
    return (fact, int(version)) if version.isascii() and version.isdigit() else (tag, 1)


def tag_with(fact: str, version: int) -> str:
    """The tag of a fact in one version of its shape."""
    return fact if version == 1 else f"{fact}.{version}"
