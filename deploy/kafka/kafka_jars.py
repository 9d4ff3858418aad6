"""The jars of Apache Kafka, fetched once by Maven and kept in a folder that git ignores.

The folder is named by a hash of ``pom.xml``: another version of Kafka is another folder. It appears whole or not at all, so
that several processes may ask for it at once. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
CACHE = HERE / ".jars"

FETCH_SECONDS = 600


class NoKafka(Exception):
    """Kafka cannot be had here; the message says what is missing."""


def missing_tools() -> list[str]:
    """Which of the tools that are needed to fetch and run Kafka are not on the path."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def class_path() -> str:
    """The class path of Kafka, its jars fetched if they are not here yet. Raises NoKafka."""
    return f"{folder_of_jars()}/*"


def folder_of_jars() -> Path:
    """Where the jars are. Raises NoKafka where a tool is missing or Maven fails."""
    if missing := missing_tools():
        raise NoKafka(f"not on the path: {', '.join(missing)}; on Debian and Ubuntu: apt-get install default-jre maven")
    folder = CACHE / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    CACHE.mkdir(exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second finds the folder made
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={unfinished}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)  # noqa: S603 - our own words
    except subprocess.TimeoutExpired as error:
        raise NoKafka(f"Maven did not fetch Kafka within {FETCH_SECONDS} s") from error
    if done.returncode:
        raise NoKafka(f"Maven could not fetch Kafka:\n{(done.stdout + done.stderr)[-2000:]}")
    unfinished.replace(folder)
