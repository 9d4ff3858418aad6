"""The command ``runfold``, but for one fault: it stops itself in the middle of its third COPY, as a frozen machine would."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from itertools import count

from runfold.cli import main
from runfold.store import postgres_writes

_copies = count(1)


async def _sent(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    if next(_copies) == 3:
        yield chunks[0][:1000]
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGSTOP)
        yield chunks[0][1000:]
        chunks = chunks[1:]
    for chunk in chunks:
        yield chunk


postgres_writes._sent = _sent

if __name__ == "__main__":
    main()
