"""A sink whose faults and delays a test decides."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from runfold.log.port import Message, Place
from runfold_schemas import codec


class ScriptedSink:
    """Keeps what is appended. ``faults`` are raised by the next appends, in order; ``gate`` holds appends while closed."""

    def __init__(self) -> None:
        self.appends: list[list[Message]] = []
        self.refused: list[list[Message]] = []
        self.faults: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.closed = False

    async def start(self) -> None: ...

    async def close(self) -> None:
        self.closed = True

    async def append(self, messages):
        self.asked.set()
        await self.gate.wait()
        if self.faults:
            self.refused.append(list(messages))
            raise self.faults.pop(0)
        begin = len(self.messages)
        self.appends.append(list(messages))
        return [Place(0, begin + index) for index in range(len(messages))]

    @property
    def messages(self) -> list[Message]:
        return [message for messages in self.appends for message in messages]

    @property
    def events(self) -> list:
        return [codec.decode(message.value) for message in self.messages]


@pytest.fixture
def sink() -> ScriptedSink:
    return ScriptedSink()


@pytest.fixture
def forget():
    """Deletes records of partition 0 from a SQLite log, those below an offset unless told otherwise."""

    def delete(log, offset, which="offset < ?"):
        with closing(sqlite3.connect(log)) as file, file:
            file.execute(f"DELETE FROM partition_0 WHERE {which}", (offset,))

    return delete
