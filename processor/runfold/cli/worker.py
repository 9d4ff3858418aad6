"""One of several workers of ``runfold serve --workers``: a process of its own, which tells its parent why it leaves."""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial
from multiprocessing.connection import Connection

from msgspec import structs
from structlog.contextvars import bind_contextvars

from runfold import wiring
from runfold.cli.exits import DONE, meaning_of, tell_cause
from runfold.config import OFF, Settings
from runfold.health.watching import watched
from runfold.service.orphans import die_with_parent
from runfold.service.serve import DrainExceeded, Orders, leave_hanging, work
from runfold.service.supervisor import REFUSALS, Hello, Refusal, Task
from runfold.store.owners import new_owner
from runfold.telemetry import configure_logging


def run_worker(settings: Settings, orders: Orders, task: Task, says: Connection) -> None:
    """What the process runs; ends it with the exit code of :mod:`runfold.cli.exits`."""
    die_with_parent()
    configure_logging(level=settings.logging_level, style=settings.logging_format)
    bind_contextvars(worker=task.number)
    owner = new_owner()
    says.send(Hello(owner))
    mine = Orders(until_end=orders.until_end, accept_loss=orders.accept_loss, owner=owner, dead=task.dead)
    sys.exit(_run(settings, mine, says))


def _run(settings: Settings, orders: Orders, says: Connection) -> int:
    try:
        asyncio.run(_work(settings, orders))
    except DrainExceeded as error:
        leave_hanging(error)
    except Exception as error:
        if (meaning := meaning_of(error)) is None:
            raise
        cause, code = meaning
        if code in REFUSALS:
            says.send(Refusal(str(cause)))
        else:
            tell_cause(str(cause))
        return code
    return DONE


async def _work(settings: Settings, orders: Orders) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = structs.replace(settings, health=OFF)  # the parent answers for all
    open_source, open_store = partial(wiring.open_source, settings), partial(wiring.open_store, settings)
    async with watched(settings, open_source=open_source, open_store=open_store) as observer:
        await work(settings, open_source(), open_store(), orders, stop=stop, observer=observer)
