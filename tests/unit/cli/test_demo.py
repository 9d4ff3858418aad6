from __future__ import annotations

import re
import signal

import httpx2


def test_the_demo_wants_a_folder_of_its_own(tmp_path, cli):
    """A folder with something in it is refused, and left as it is."""
    (tmp_path / "mine").write_text("mine")
    answer = cli("demo", "--folder", str(tmp_path))
    assert answer.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_demo_shows_all_of_it(tmp_path, command):
    """The demo publishes, folds, kills, shows, and verifies: on stdout the tables, its own words on stderr."""
    answer = command("demo", "--seconds", "1", "--folder", str(tmp_path / "demo"))
    assert answer.code == 0, answer.err
    assert "identical: " in answer.out
    assert "simulated" in answer.err


def test_the_demo_stays_up_to_be_looked_at(tmp_path, started):
    """With --serve the console answers at the address that it tells, over traffic that goes on, until it is ended."""
    demo = started("demo", "--seconds", "1", "--folder", str(tmp_path / "demo"), "--serve")
    url = None
    while url is None:
        line = demo.stderr.readline().decode()
        assert line, "it ended"
        url = re.search(r"Look at (http://\S+) in a browser", line)
    assert "<title>" in httpx2.get(url[1]).text
    folded = position(url[1])
    while position(url[1]) == folded:
        assert demo.poll() is None
    demo.send_signal(signal.SIGINT)
    demo.stdout.close()
    assert "Everything is still there" in demo.stderr.read().decode()
    assert demo.wait(timeout=30) == 0


def position(url: str) -> dict[str, int]:
    """Up to where the log is folded."""
    return httpx2.get(f"{url}/v1/runfold/status").json()["runfold"]["position"]
