"""``runfold runs watch`` where an API is configured: through its feed, as it would have told from the store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from api_serving import add_key, api_server, publish_and_fold
from fold_stories import event, usage

from runfold_schemas import RunCompleted, RunCreated, RunInProgress

NAMED = {"run_id": "run_a", "thread_id": "t"}


def watch(*options: str, **told: str) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
    return subprocess.Popen(
        [sys.executable, "-m", "runfold", "runs", "watch", "run_a", "--until-ended", *options],
        env=own | {f"RUNFOLD_API_{name.upper()}": value for name, value in told.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_shows_each_change_until_the_end(tmp_path: Path) -> None:
    """It shows the run as it stands, then as it changes, and leaves when it has ended."""
    publish_and_fold(tmp_path, [event(RunCreated, 0, **NAMED), event(RunInProgress, 1, **NAMED)])
    key = add_key(tmp_path, "read")
    with api_server(tmp_path) as server, watch(url=server.url, key=key) as watching:
        assert watching.stdout is not None
        assert "in_progress" in watching.stdout.readline()
        publish_and_fold(tmp_path, [event(RunCompleted, 2, **NAMED, usage=usage())])
        rest, _ = watching.communicate(timeout=30)
        assert [line.split("  ")[1:] for line in rest.splitlines()] == [["completed", "15 tokens"]]
        assert watching.returncode == 0


def test_a_refusal_names_the_settings(tmp_path: Path) -> None:
    """A key that the API does not know ends it with exit code 2, and the setting by its name."""
    publish_and_fold(tmp_path, [event(RunCreated, 0, **NAMED)])
    add_key(tmp_path, "read")
    with api_server(tmp_path) as server, watch("--api", server.url, key="wrong") as watching:
        _, said = watching.communicate(timeout=30)
        assert (watching.returncode, "RUNFOLD_API_KEY" in said) == (2, True)
