from __future__ import annotations


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
