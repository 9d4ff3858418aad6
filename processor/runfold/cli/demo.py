"""``runfold demo``: where the demonstration of :mod:`runfold.demo.run_demo` is given its log, its store and its folder."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from runfold import wiring
from runfold.cli.exits import DONE, WrongUseError
from runfold.cli.options import Places
from runfold.demo import run_demo

Seconds = Annotated[
    float, Parameter(validator=validators.Number(gte=1, lte=3600), help="How long simulated traffic is published.")
]


def demo(
    *,
    seconds: Seconds = 20.0,
    serve: Annotated[bool, Parameter(help="Stay up afterwards, with a little traffic, until Ctrl-C.")] = False,
    folder: Annotated[str | None, Parameter(help="An empty folder to work in; by default a new one.")] = None,
) -> int:
    """All of it at work on simulated traffic: publish, fold, kill -9 twice, look, and prove.

    It works in a new folder below RUNFOLD_DATA, which is kept to be looked at.
    """
    place = run_demo.new_folder(Places().settings().data) if folder is None else _empty(Path(folder))
    settings = Places(
        data=str(place), log=f"sqlite:///{place}/runfold.log.db", store=f"sqlite:///{place}/runfold.db"
    ).settings()
    asyncio.run(
        run_demo.demo(
            settings,
            lambda: wiring.open_sink(settings),
            wiring.open_source(settings),
            wiring.open_store(settings),
            seconds=seconds,
            stay=serve,
        )
    )
    return DONE


def _empty(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = next(folder.iterdir(), None)
    except OSError as error:
        raise WrongUseError(f"--folder {folder}: {error.strerror}") from error
    if used is not None:
        raise WrongUseError(f"--folder {folder}: it is not empty; the demo wants a folder of its own")
    return folder.absolute()
