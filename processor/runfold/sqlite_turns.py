"""Whose turn it is where one process reads a SQLite log and writes a SQLite store: the service on the embedded default.

Python's sqlite3 lets go of the interpreter's lock for every row. Two threads that step through rows at the same time hand it to
and fro, and a seventh of all CPU time went into that; what they do can hardly overlap anyway. So the thread that fetches
and the one that commits take turns. People who read, in the same process or another, wait for no turn.
"""

from __future__ import annotations

from threading import Lock

TURN = Lock()
"""Held by a thread while it steps through many rows for the service; never while it waits for anything but SQLite."""
