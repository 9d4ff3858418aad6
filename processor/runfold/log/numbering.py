"""The number each event of a run gets, and under which source name: what lets a reader tell that an event is missing.

A source never uses a number of a run twice. It remembers only the runs that are open; whatever is forgotten, by its end or
for want of room, is therefore numbered from 1 again under a newer name, should it come back. A name is
``name.token.generation``: the token is new for every Numbering and after a fork.
"""

from __future__ import annotations

import os
import secrets
import weakref
from collections import OrderedDict

import uuid_utils
from msgspec.structs import replace

from runfold_schemas.events import Event, RunCreated, RunEnded

LONGEST_NAME = 40
"""Of the 64 characters a source may have; the rest is for token and generation."""


_Stand = tuple[
    str, int, int
]  # a run's source here, its last number and its latest time; bare, as one is made per event


class Numbering:
    """Completes events: ``id``, ``occurred_at``, ``source`` and ``sequence``, each where it is left out.

    ``name`` (1 to 40 characters) is whom people know as the source; ``most_runs`` bounds the memory, at some 350 bytes a
    run. What :meth:`complete` did since the last :meth:`keep` can be taken back, because nothing of it was sent.
    """

    def __init__(self, name: str, *, most_runs: int = 100_000) -> None:
        if not 1 <= len(name) <= LONGEST_NAME:
            raise ValueError(f"source: {name!r} has {len(name)} characters; 1 to {LONGEST_NAME} are allowed")
        self._name, self._most_runs = name, most_runs
        self.renew()
        _LIVING.add(self)

    def renew(self) -> None:
        """Forget everything and take another name, as a new process has to."""
        self._token = secrets.token_hex(5)
        self._generation = 0
        self._source = f"{self._name}.{self._token}"
        self._stands: OrderedDict[str, _Stand] = OrderedDict()
        self._undo: list[tuple[str, _Stand | None]] = []
        self._ended_since = False

    def complete(self, event: Event, now: int) -> Event:
        """Fill in what is left out. An event that names its source or number keeps both as they are.

        A time that is filled in is never before one that this run has had here. Times that are given are facts.
        """
        stand = self._stands.get(event.run_id)
        self._undo.append((event.run_id, stand))
        source, number, time = stand or self._first_stand(event)
        at = event.occurred_at or max(now, time)
        told_source, told_number = event.source, event.sequence
        if told_source is None and told_number is None:
            number += 1
            told_source, told_number = source, number
        self._remember(event, (source, number, max(at, time)))
        return replace(
            event,
            id=event.id or str(uuid_utils.uuid7()),
            occurred_at=at,
            source=told_source,
            sequence=told_number,
        )

    def _first_stand(self, event: Event) -> _Stand:
        # A run that is new here starts with `created`. Any other may be one that ended here, and used numbers then.
        if self._ended_since and not isinstance(event, RunCreated):
            self._next_generation()
        return (self._source, 0, 0)

    def _remember(self, event: Event, stand: _Stand) -> None:
        if isinstance(event, RunEnded):
            self._stands.pop(event.run_id, None)
            self._ended_since = True
        else:
            self._stands[event.run_id] = stand
            self._stands.move_to_end(event.run_id)

    def keep(self) -> None:
        """What was completed will be sent. Forgets the runs that were silent longest, where there are too many."""
        self._undo.clear()
        if len(self._stands) > self._most_runs:
            self._next_generation()
            while len(self._stands) > self._most_runs:
                self._stands.popitem(last=False)

    def take_back(self) -> None:
        """Nothing that was completed since the last keep will be sent: its numbers are free again."""
        for run_id, stand in reversed(self._undo):
            if stand is None:
                self._stands.pop(run_id, None)
            else:
                self._stands[run_id] = stand
        self._undo.clear()

    def _next_generation(self) -> None:
        self._generation += 1
        self._source = f"{self._name}.{self._token}.{self._generation:x}"
        self._ended_since = False


_LIVING: weakref.WeakSet[Numbering] = weakref.WeakSet()


def _after_fork() -> None:
    """Give the child names and ids of its own: parent and child would otherwise go on with the same ones."""
    uuid_utils.reseed_rng()
    for numbering in list(_LIVING):
        numbering.renew()


os.register_at_fork(after_in_child=_after_fork)
