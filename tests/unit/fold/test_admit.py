"""Which records are no events, and which of several reasons is given."""

from __future__ import annotations

import pytest
from fold_stories import START, Partition, event

from runfold.fold.changes import Letter
from runfold.fold.outcome import EXPLANATIONS
from runfold.fold.record import StoredRecord
from runfold.fold.rules import Rules
from runfold_schemas import RunCreated, RunInProgress, encode, encode_json

DAY = 86_400
NOW = START * 1000


def record(value: bytes | None, key: bytes | None = b"run_1", timestamp: int = NOW) -> StoredRecord:
    return StoredRecord(0, timestamp, key, value)


def told(at: float = 0, **fields) -> bytes:
    return encode(event(RunInProgress, at, **fields))


def letter_of(partition: Partition, one: StoredRecord) -> Letter:
    changes = partition.feed(one)
    assert changes.tally[0] == {"rejected": 1}
    return changes.letters[0]


UNKNOWN = told().replace(b"in_progress", b"in_hospital")


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (record(b"\xc1"), "malformed"),
        (record(b""), "malformed"),
        (record(None), "malformed"),
        (record(b"{}"), "malformed"),
        (record(UNKNOWN), "unknown_type"),
        (record(told(), key=b"run_2"), "key_mismatch"),
        (record(told(), key=None), "key_mismatch"),
        (record(told(), key=b""), "key_mismatch"),
        (record(told(), key=b"\xff"), "key_mismatch"),
        (record(told(DAY + 1)), "clock"),
        (record(told(-START)), "malformed"),
        (record(told(1 - START)), "clock"),
        (record(b" " * 1_000_001), "too_large"),
    ],
)
def test_each_reason_has_its_name(partition: Partition, one: StoredRecord, reason: str) -> None:
    """Malformed, unknown type, key, clock and size are told apart."""
    assert letter_of(partition, one).reason == reason


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (record(b"\xc1" * 1_000_001, key=None), "too_large"),
        (record(b"\xc1", key=None), "malformed"),
        (record(UNKNOWN, key=b"run_2"), "unknown_type"),
        (record(told(DAY + 1), key=b"run_2"), "key_mismatch"),
    ],
)
def test_reasons_stand_in_their_order(partition: Partition, one: StoredRecord, reason: str) -> None:
    """Of several reasons the first is given: too large, malformed, unknown type, key, clock."""
    assert letter_of(partition, one).reason == reason


def test_a_letter_keeps_the_record_whole(partition: Partition) -> None:
    """Key, value, headers and timestamp of a dead letter are those of the record."""
    headers = (("trace", b"\x00"),)
    letter = letter_of(partition, StoredRecord(0, 123, b"run_9", b"\xc1", headers))
    assert (letter.key, letter.value, letter.headers, letter.timestamp) == (b"run_9", b"\xc1", headers, 123)


@pytest.mark.parametrize(("key", "run_id"), [(b"run_9", "run_9"), (None, None), (b"", None), (b"\xff", None)])
def test_a_letter_belongs_to_the_run_its_key_names(partition: Partition, key: bytes | None, run_id: str | None) -> None:
    """The key decides, also where the event names another run; an unreadable key names none."""
    assert letter_of(partition, record(told(), key=key)).run_id == run_id


@pytest.mark.parametrize("at", [0, DAY, 978_307_200 - START])
def test_times_from_2001_to_a_day_ahead_are_taken(partition: Partition, at: float) -> None:
    """Both bounds belong to what is taken."""
    assert partition.feed(record(told(at))).tally[0] == {"applied": 1}


@pytest.mark.parametrize("at", [DAY + 0.001, 978_307_200 - START - 0.001])
def test_times_just_beyond_are_rejected(partition: Partition, at: float) -> None:
    """A millisecond beyond either bound is a wrong clock."""
    assert letter_of(partition, record(told(at))).reason == "clock"


def test_a_record_without_timestamp_sets_no_upper_bound(partition: Partition) -> None:
    """Timestamp -1 is unknown: an event of any later time is taken."""
    assert partition.feed(record(told(900 * DAY), timestamp=-1)).tally[0] == {"applied": 1}


def test_a_record_without_timestamp_keeps_the_lower_bound(partition: Partition) -> None:
    """Before 2001 is a wrong clock whatever the record's timestamp."""
    assert letter_of(partition, record(told(-DAY * 20_000), timestamp=-1)).reason == "clock"


def test_seconds_are_recognised(partition: Partition) -> None:
    """A time that would be right as seconds gets a hint."""
    seconds = told(START / 1000 - START)
    assert "looks like seconds" in letter_of(partition, record(seconds)).detail


def test_microseconds_are_recognised(partition: Partition) -> None:
    """A time that would be right as microseconds gets a hint."""
    assert "looks like microseconds" in letter_of(partition, record(told(START * 999))).detail


def test_the_largest_value_is_a_setting() -> None:
    """A value of exactly the largest size is taken, one byte more is not."""
    value = told()
    assert Partition(Rules(largest_value=len(value))).feed(value).tally[0] == {"applied": 1}
    assert Partition(Rules(largest_value=len(value) - 1)).feed(value).letters[0].reason == "too_large"


@pytest.mark.parametrize("key", [b"run_2", None, b""])
def test_the_keys_run_alone_is_touched(partition: Partition, key: bytes | None) -> None:
    """A record under a wrong key changes no run, neither the key's nor the event's."""
    partition.feed(event(RunCreated), event(RunCreated, run_id="run_2"))
    assert partition.feed(record(told(1, source="a", sequence=5), key=key)).runs == []


def test_json_is_as_good_as_messagepack(partition: Partition) -> None:
    """A record in JSON is folded like one in MessagePack."""
    assert partition.feed(encode_json(event(RunCreated))).tally[0] == {"applied": 1}


def test_a_record_set_aside_is_not_decoded() -> None:
    """A record that has killed processes becomes a dead letter unread."""

    def fatal(value: bytes | None):
        raise AssertionError("decoded")

    letter = letter_of(Partition(decode=fatal, set_aside={0: "killed three times"}), record(b"x"))
    assert (letter.reason, letter.detail) == ("set_aside", "killed three times")


def test_every_outcome_is_explained() -> None:
    """Every outcome has a sentence for people."""
    outcomes = {"applied", "unchanged", "duplicate", "conflict", "stale", "late", "refused", "rejected"}
    assert set(EXPLANATIONS) == outcomes
