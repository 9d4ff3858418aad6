"""`deploy/runfold.env`: every setting explained, and none that is not."""

from __future__ import annotations

import os
import subprocess
import sys

from deployment import DEPLOY

from runfold.config import SETTINGS, load_settings

LINES = (DEPLOY / "runfold.env").read_text(encoding="utf-8").splitlines()


def uncommented():
    return dict(line[1:].split("=", 1) for line in LINES if line.startswith("#RUNFOLD_"))


def test_committed_file_is_current():
    """The committed file is what `runfold config --env-file` prints; `make settings` writes it anew."""
    command = [sys.executable, "-m", "runfold", "config", "--env-file"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout
    assert printed.splitlines() == LINES


def test_each_setting_is_there_with_its_explanation():
    """What a setting is for stands above it."""
    for setting in SETTINGS:
        explanation = LINES[LINES.index(f"#{setting.variable}={setting.default}") - 1]
        assert setting.help in explanation


def test_what_is_commented_out_is_the_default():
    """Taking every # away changes no setting."""
    given, default = load_settings(environment=uncommented()), load_settings(environment={})
    assert {name: getattr(given, name) for name in given.__struct_fields__ if name != "origins"} == {
        name: getattr(default, name) for name in default.__struct_fields__ if name != "origins"
    }


def test_as_it_is_it_sets_nothing():
    """Compose, Docker and systemd read a file of comments: whoever copies it changes nothing by that."""
    assert all(not line or line.startswith("#") for line in LINES)
