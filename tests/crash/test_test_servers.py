"""The PostgreSQL of a test run ends with the run, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
ENDLESS = """
import os
import time

def test_endless(postgres_database):
    print("started", os.environ["RUNFOLD_TEST_RUN_FOLDER"], flush=True)
    time.sleep(120)
"""


@pytest.mark.skipif("RUNFOLD_TEST_POSTGRES" in os.environ, reason="an existing server is used, and left alone")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_no_server_outlives_its_run(tmp_path: Path, postgres_database: str, how: signal.Signals) -> None:
    """After Ctrl-C, and after kill -9, neither process nor folder of the run's server is left."""
    (tmp_path / "test_endless.py").write_text(ENDLESS)
    (tmp_path / "conftest.py").write_text(
        f'import sys\nsys.path.insert(0, {str(ROOT / "tests" / "support")!r})\npytest_plugins = ["postgres_fixtures"]\n'
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    loops = "asyncio_default_fixture_loop_scope=function"
    command = [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", "-o", loops, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as run:
        assert run.stdout is not None
        while "started" not in (line := run.stdout.readline()):
            assert line, "the run ended before its test began"
        folder = Path(line.split()[-1])
        warden = psutil.Process(int((folder / "warden").read_text()))
        processes = [warden, *warden.children(recursive=True)]
        assert len(processes) > 3
        run.send_signal(how)
        run.wait(60)
    _, left = psutil.wait_procs(processes, timeout=30)
    assert left == []
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not folder.exists()
