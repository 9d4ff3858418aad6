"""The Kafka of ``deploy/kafka``: it starts, is shared, and leaves nothing behind, however its users end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka_cluster import Cluster
from kafka_fixtures import skip_without_kafka_tools
from kafka_jars import HERE

PATIENCE = 120


@pytest.fixture(autouse=True)
def tools():
    skip_without_kafka_tools()


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def user(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, cwd=HERE)


def processes_of(folder: Path) -> list[str]:
    """The processes whose command line names the folder."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdigit() and str(folder).encode() in (each / "cmdline").read_bytes():
                found.append(each.name)
        except OSError:
            continue  # it has ended meanwhile
    return found


START = """
import time
from kafka_cluster import Cluster
cluster = Cluster.start()
print(cluster.folder, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_behind(end):
    """Whatever ends the process that started it, Kafka ends too, and its data are gone."""
    with user("-c", START) as starter:
        folder = Path(starter.stdout.readline().strip())
        assert processes_of(folder)
        starter.send_signal(end)
    until(lambda: not folder.exists() and not processes_of(folder))


def test_a_cluster_lives_as_long_as_its_last_user(tmp_path):
    """Users of one pointer share a cluster; it goes on when the first has left, and ends with the last."""
    first = Cluster.join(tmp_path / "kafka")
    second = Cluster.join(tmp_path / "kafka")
    assert first.bootstrap_servers == second.bootstrap_servers
    first.close()
    assert second.folder.exists()
    second.wait_until_up()
    second.close()
    assert not second.folder.exists()


def test_a_command_runs_beside_kafka_and_its_code_is_the_answer():
    """`run.py -- command` hands over the address and returns the command's own exit code."""
    script = "import os, sys; sys.exit(7 if os.environ['KAFKA_BOOTSTRAP_SERVERS'].startswith('127.0.0.1:') else 1)"
    done = subprocess.run([sys.executable, str(HERE / "run.py"), "--", sys.executable, "-c", script], check=False)
    assert done.returncode == 7


def test_what_is_missing_is_named(tmp_path):
    """Without java and mvn the message says which, and how to get them."""
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py")],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "java, mvn" in done.stderr) == (3, True)
