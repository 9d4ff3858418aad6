"""What could not be understood of a file, and where: a person has to find it."""

from __future__ import annotations

from msgspec import Struct


class Problem(Struct, frozen=True):
    """Something in ``file`` at ``line`` (from 1; 0 is the file as a whole) that could not be captured, and why."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"
