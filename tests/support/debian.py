"""What tests need and pip cannot bring, from Debian or Ubuntu: installed where this is root there, and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


def program(name: str, *packages: str) -> str | None:
    """The path of a program; of these packages where it is not here yet. None where it cannot be had."""
    found = shutil.which(name, path=PATH)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        found = _installed(name, *packages)
    return found


def _installed(name: str, *packages: str) -> str | None:
    """Lists may be old or missing, and another process of these tests may be at it: so again."""
    wait = ("-qq", "-o", "DPkg::Lock::Timeout=300")
    install, update = ("install", "-y", "--no-install-recommends", *wait, *packages), ("update", *wait)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (install, update, install, update, install):
        subprocess.run(("apt-get", *step), check=False, capture_output=True, timeout=900, env=environment)
        if found := shutil.which(name, path=PATH):
            return found
        time.sleep(1)
    return None
