"""``runfold topic``: the Kafka topic that is the log: made as it should be, and checked for what endangers data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter, Token

from runfold import wiring
from runfold.cli.exits import DONE, NO
from runfold.cli.options import HERE, AsJson, Places
from runfold.cli.printing import print_json, print_line, print_table, tell
from runfold.config import Settings
from runfold.log.port import LogExists

app = App(name="topic", help="Make and check the Kafka topic of the log.", default_parameter=Parameter(negative=()))

_UNITS = {"h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000, "y": 365 * 86_400_000}
_FOREVER = -1


def _time_span(_: Any, tokens: Sequence[Token]) -> int:
    text = tokens[0].value.lower()
    if text == "forever":
        return _FOREVER
    if not (found := re.fullmatch(r"([1-9]\d{0,5})([hdwy])", text)):
        raise ValueError(f"{text!r} is no time: forever, or a number with h, d, w or y is wanted, such as 90d")
    return int(found[1]) * _UNITS[found[2]]


def _positive(_: Any, value: int | None) -> None:
    if value is not None and not 1 <= value <= 100_000:
        raise ValueError("a number from 1 to 100,000 is wanted")


Partitions = Annotated[int, Parameter(validator=_positive, help="They can be shared by as many workers, and no more.")]
Replicas = Annotated[
    int | None, Parameter(validator=_positive, help="Copies; 3 by default, where there are 3 brokers.")
]
Retention = Annotated[
    int, Parameter(converter=_time_span, n_tokens=1, help="How long events are kept: forever, 90d, 2y.")
]
IfMissing = Annotated[bool, Parameter(help="Leave a topic that is there as it is; for start-up scripts.")]


@app.command
def create(
    *,
    partitions: Partitions = 12,
    replicas: Replicas = None,
    retention: Retention = _FOREVER,
    if_missing: IfMissing = False,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """Make the topic that RUNFOLD_LOG names, with settings that lose nothing.

    The number of partitions is for good: a topic that grows splits its open runs over two partitions.
    """
    try:
        made = asyncio.run(_create(places.settings(), partitions=partitions, replicas=replicas, retention=retention))
    except LogExists as error:
        if not if_missing:
            raise
        tell(str(error))
        return DONE
    if json:
        print_json(made)
    else:
        print_table(("setting", "value"), list(made.items()))
    return DONE


@app.command
def check(*, json: AsJson = False, places: Places = HERE) -> int:
    """Name each setting of the topic, and of its brokers, that endangers data. Exit code 1 where there is one."""
    found = asyncio.run(_check(places.settings()))
    if json:
        print_json(*found)
    else:
        print_table(
            ("", "setting", "value", "what follows"),
            [("danger" if each.endangers else "", each.setting, each.value, each.told) for each in found],
        )
    dangers = sum(each.endangers for each in found)
    if not json:
        print_line(f"{dangers} settings endanger data" if dangers else "no setting endangers data")
    return NO if dangers else DONE


async def _create(settings: Settings, *, partitions: int, replicas: int | None, retention: int) -> dict[str, str]:
    async with wiring.open_topic(settings) as topic:
        return await topic.create(partitions=partitions, replicas=replicas, retention_ms=retention)


async def _check(settings: Settings) -> Any:
    async with wiring.open_topic(settings) as topic:
        return await topic.check()
