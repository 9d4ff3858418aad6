"""The canonical line of a committed batch."""

from __future__ import annotations

from pathlib import Path

from serving import fill, messages, serving, traffic

from runfold.log.port import Message

FIELDS = {
    *("records", "partitions", "positions", "runs", "usage_rows", "letters", "applied"),
    *("fetch_ms", "load_ms", "fold_ms", "commit_ms", "age_ms"),
}


async def test_every_commit_has_its_line(tmp_path: Path) -> None:
    """Each committed batch is told in one line with all its fields, and the lines add up to the records."""
    await fill(tmp_path, messages(traffic(100)))
    async with serving(tmp_path, until_end=True, batch_records=30) as service:
        assert await service.failure() is None
    lines = service.events("batch_committed")
    assert [line["records"] for line in lines] == [30, 30, 30, 10]
    assert all(line.keys() >= FIELDS for line in lines)
    assert sum(line["applied"] for line in lines) == 100


async def test_outcomes_add_up(tmp_path: Path) -> None:
    """The outcomes in a line add up to its records, rejected ones included."""
    written = messages(traffic(20))
    await fill(tmp_path, [*written, written[3], Message(b"run_x", b"\xc1")])
    async with serving(tmp_path, until_end=True) as service:
        assert await service.failure() is None
    (line,) = service.events("batch_committed")
    assert (line["records"], line["applied"], line["duplicate"], line["rejected"], line["letters"]) == (22, 20, 1, 1, 1)


async def test_times_are_of_this_batch(tmp_path: Path) -> None:
    """The age is that of the newest record, in milliseconds, and no time is negative."""
    await fill(tmp_path, messages(traffic(20)))
    async with serving(tmp_path, until_end=True) as service:
        assert await service.failure() is None
    (line,) = service.events("batch_committed")
    assert 0 <= line["age_ms"] < 60_000
    assert all(line[name] >= 0 for name in ("fetch_ms", "load_ms", "fold_ms", "commit_ms"))


async def test_content_is_never_logged(tmp_path: Path) -> None:
    """Nothing that an event carries is logged, whether it was folded or rejected: instructions, metadata, raw bytes."""
    secret = b"Bearer sk-secret"
    await fill(
        tmp_path, [*messages(traffic(50)), Message(b"run_" + secret, secret), Message(b"run_x", b"\xc1" + secret)]
    )
    async with serving(tmp_path, until_end=True) as service:
        assert await service.failure() is None
    told = repr(service.logs)
    assert "sk-secret" not in told
    assert "helpful assistant" not in told
    assert "user_" not in told
