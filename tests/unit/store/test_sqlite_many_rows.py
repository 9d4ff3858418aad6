"""Rows that go into SQLite many a statement arrive as if each had one of its own."""

import sqlite3
from contextlib import closing

import pytest

from runfold.store.sqlite_connection import AT_ONCE, insert_all

MOST, SOME = AT_ONCE
SIZES = (0, 1, SOME - 1, SOME, SOME + 1, 3 * SOME + 5, MOST, 2 * MOST + SOME + 1)


@pytest.fixture
def db():
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("create table pair (key integer primary key, value integer check (value < 1000))")
        yield made


@pytest.mark.parametrize("size", SIZES)
def test_all_rows_arrive(db, size):
    """Whatever their number, all rows are there, once."""
    rows = [(key, key % 7) for key in range(size)]
    insert_all(db, "pair", rows)
    assert db.execute("select * from pair order by key").fetchall() == rows


@pytest.mark.parametrize("size", SIZES)
def test_what_is_there_already_is_dealt_with(db, size):
    """The clause for what is there already counts for each row."""
    rows = [(key, 1) for key in range(size)]
    for _ in range(2):
        insert_all(db, "pair", rows, otherwise="on conflict do update set value = value + excluded.value")
    assert db.execute("select * from pair order by key").fetchall() == [(key, 2) for key, _ in rows]


@pytest.mark.parametrize("place", [0, MOST - 1, MOST, MOST + SOME])
def test_a_row_that_is_refused_is_told(db, place):
    """A row that the table refuses raises, wherever it stands."""
    rows = [(key, 1000 if key == place else 1) for key in range(MOST + SOME + 1)]
    with pytest.raises(sqlite3.IntegrityError):
        insert_all(db, "pair", rows)
