"""`deploy/runfold.service`: what systemd itself says of it."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployment import DEPLOY

from runfold.cli.app import command_line
from runfold.config import load_settings

UNIT = DEPLOY / "runfold.service"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on the path")


def analyze(*words):
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def service():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(UNIT)
    return parser["Service"]


@needs_systemd
def test_systemd_finds_nothing_wrong(tmp_path):
    """Every name and value is one that systemd knows; a misspelled one would be ignored at run time."""
    installed = tmp_path / UNIT.name
    command = str(Path(sys.executable).with_name("runfold"))
    installed.write_text(UNIT.read_text().replace("/opt/runfold/bin/runfold", command))
    told = analyze("verify", "--man=no", str(installed))
    assert (told.returncode, told.stderr) == (0, "")


@needs_systemd
def test_systemd_calls_it_hardened():
    """By systemd's own measure, where 100 is wide open, little is left to take from it."""
    told = analyze("security", "--offline=true", "--threshold=20", str(UNIT))
    assert told.returncode == 0, told.stdout[-300:]


def test_its_command_is_one_that_the_command_line_takes(service):
    """What it starts is a verb of this version."""
    _, *words = service["ExecStart"].split()
    command_line(words[0]).parse_args(words, exit_on_error=False)


def test_stopping_may_take_longer_than_draining(service):
    """systemd kills only after the service had its time to drain."""
    assert int(service["TimeoutStopSec"]) > load_settings(environment={}).drain


def test_it_writes_where_it_may(service):
    """The data folder is the one folder that systemd leaves writable."""
    assert service["Environment"] == f"RUNFOLD_DATA=/var/lib/{service['StateDirectory']}"
