"""What verbs share that fold a log again: a folder with room for a second store, and a collector that keeps out of the way."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from runfold.cli.exits import WrongUseError
from runfold.config import Settings

Workspace = Annotated[
    str | None,
    Parameter(help="Folder with room for a second store; by default the data folder. Nothing is left in it."),
]


def workspace_of(settings: Settings, named: str | None) -> Path:
    """The folder that was named, or the data folder, or where there is none a temporary one. Raises WrongUseError."""
    folder = settings.data if named is None else Path(named)
    if named is None and not folder.is_dir():
        folder = Path(tempfile.gettempdir())  # log and store stand elsewhere
    if not folder.is_dir():
        raise WrongUseError(f"--workspace {folder}: there is no such folder")
    return folder


def quieten_collector() -> None:
    """What lives now lives on, and a batch leaves no cycles: look for garbage when more is alive than two batches in hand."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000_000, 20, 20)
