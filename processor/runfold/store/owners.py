"""Names of owners: they say which process on which machine it is, so that others on that machine can look for it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from uuid_utils import uuid7


def new_owner() -> str:
    """A name for this worker that no other one has had: host, process and a part of a UUID."""
    return f"{socket.gethostname()}:{os.getpid()}:{str(uuid7())[-12:]}"


def is_there(owner: str) -> bool:
    """Whether the owner's process is on this machine and has not ended; False where that cannot be seen from here."""
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    with suppress(OSError):  # where there is no /proc, one that ended and was not waited for still counts as there
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in "ZX"
    return True
