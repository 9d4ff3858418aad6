"""The console that everything is drawn on: it knows what a reader means who leaves early, as ``head`` does."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class PipedConsole(Console):
    """A console whose reader may leave: that is told as BrokenPipeError, which :mod:`runfold.cli.exits` understands."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise it again; rich itself would end the process, as if something were wrong."""
        self.quiet = True
        raise BrokenPipeError
