"""Events that come again: told apart by id and content, and marked by number."""

from __future__ import annotations

import pytest
from fold_stories import Partition, Story, event, usage

from runfold.fold.outcome import Flag
from runfold_schemas import (
    Codec,
    RunCancelled,
    RunCompleted,
    RunCreated,
    RunInProgress,
    RunModified,
    RunQueued,
    RunRequiresAction,
    RunUsageCorrected,
)
from runfold_schemas.lean import LEAN_EVENT_TYPES

CODEC = Codec(LEAN_EVENT_TYPES)
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def test_an_id_seen_before_is_a_duplicate(story: Story) -> None:
    """The same event again is a duplicate and changes nothing."""
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 1)
    before = story.run
    assert story.tell(RunInProgress, 1) == "duplicate"
    assert story.run == before


def test_source_and_sequence_are_no_content(story: Story) -> None:
    """The same id and content from another source under another number is a duplicate, no conflict."""
    story.number(RunCreated, 1, id="x")
    assert story.number(RunCreated, 2, at=1, id="x", source="b") == "duplicate"


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (RunInProgress, {"at": 2}),
        (RunQueued, {}),
        (RunInProgress, {"thread_id": "thread_2"}),
        (RunInProgress, {"approximate": True}),
    ],
)
def test_an_id_with_other_content_is_a_conflict(story: Story, kind, other) -> None:
    """A known id with another type, time, thread or doubt is reported and changes nothing."""
    story.tell(RunCreated, 0)
    story.tell(RunInProgress, 1, id="x")
    before = story.run
    assert story.tell(kind, **{"at": 1, "id": "x", **other}) == "conflict"
    assert story.run == before
    assert Flag.CONFLICT in story.flags


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (RunModified, {"metadata": {"a": "1"}}, {"metadata": {"a": "2"}}),
        (RunCompleted, {"usage": usage(1)}, {"usage": usage(2)}),
        (RunCompleted, {"usage": usage(1)}, {"usage": None}),
        (RunCancelled, {"last_error": {"code": "a"}}, {"last_error": {"code": "b"}}),
        (RunCancelled, {"last_error": {"a": 1}}, {"incomplete_details": {"a": 1}}),
        (RunRequiresAction, {"required_action": {"a": 1}}, {"required_action": {"a": 2}}),
        (RunUsageCorrected, {"usage": usage(1)}, {"usage": usage(2)}),
        (RunUsageCorrected, {"usage": usage(1)}, {"usage": usage(1), "reason": "x"}),
    ],
)
def test_what_an_event_carries_is_content(story: Story, kind, one, other) -> None:
    """A known id with another metadata, usage, error, action or reason is a conflict."""
    story.tell(RunCreated, 0)
    story.tell(kind, 1, id="x", **one)
    assert story.tell(kind, 1, id="x", **other) == "conflict"


@pytest.mark.parametrize(
    "other",
    [
        {"model": "o3"},
        {"assistant_id": "asst_2"},
        {"thread_id": "thread_2"},
        {"instructions": "x"},
        {"tools": [{}]},
        {"temperature": 0.5},
        {"tool_choice": "auto"},
        {"truncation_strategy": {"type": "auto"}},
    ],
)
def test_what_a_created_settles_is_content(story: Story, other) -> None:
    """A created with a known id that names other settings is a conflict: the id is looked up before anything else."""
    story.tell(RunCreated, 0)
    assert story.tell(RunCreated, 0, **other) == "conflict"


@pytest.mark.parametrize("other", [{"at": 3}, {"metadata": {"a": "1"}}, {"expires_at": 5}, {"extra": {"a": 1}}])
def test_what_later_bodies_of_a_run_change_is_no_content(story: Story, other) -> None:
    """A created with a known id that differs in time, metadata, expiry or extra is a duplicate."""
    story.tell(RunCreated, 0, id="x")
    assert story.tell(RunCreated, **{"at": 0, "id": "x", **other}) == "duplicate"


@pytest.mark.parametrize(
    "told",
    [
        event(RunCreated, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "f"}}, temperature=1),
        event(RunRequiresAction, 1, required_action={"submit_tool_outputs": {"tool_calls": [{"b": 1, "a": 2.5}]}}),
        event(RunModified, 1, metadata={"b": "2", "a": "1"}),
        event(RunCompleted, 1, usage=usage(), last_error={"b": "x", "a": None}),
        event(RunUsageCorrected, 1, usage=usage(), reason="why"),
    ],
)
def test_both_wires_have_the_same_content(told, partition: Partition) -> None:
    """An event that comes as MessagePack and then as JSON, its keys in another order, is a duplicate."""
    text = CODEC.encode_json(told)
    partition.feed(told, _turned(text))
    assert partition.state().flags & Flag.CONFLICT == 0
    assert len(partition.state().marks) == 12


def _turned(text: bytes) -> bytes:
    import json

    return json.dumps(_reversed(json.loads(text))).encode()


def _reversed(value):
    if isinstance(value, dict):
        return {name: _reversed(item) for name, item in reversed(value.items())}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


def test_a_duplicate_marks_its_number(story: Story) -> None:
    """A duplicate under a number that was missing closes the gap."""
    story.number(RunCreated, 1, id="x")
    story.number(RunInProgress, 3)
    story.number(RunCreated, 2, at=1, id="x")
    assert story.missing() == []


def test_a_conflict_marks_its_number(story: Story) -> None:
    """A conflict under a number that was missing closes the gap."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 3, id="x")
    assert story.number(RunCompleted, 2, id="x") == "conflict"
    assert story.missing() == []


def test_a_late_duplicate_does_not_count_anew(story: Story) -> None:
    """A duplicate brings its old number again, and its source goes on counting where it was."""
    story.number(RunCreated, 1)
    story.number(RunInProgress, 2)
    story.number(RunCreated, 1)
    assert story.number(RunCompleted, 3) == "applied"
    assert Flag.RECOUNTED not in story.flags


def test_endless_duplicates_of_ever_new_sources_do_not_break_a_run(story: Story) -> None:
    """Seventy thousand duplicates, each of a source of its own, leave a run that folds on."""
    story.tell(RunCreated, 0)
    for number in range(70_000):
        story.tell(RunCreated, 0, source=f"s{number}", sequence=1)
    assert story.number(RunInProgress, 1) == "applied"


def test_a_mark_is_found_only_where_a_mark_begins(story: Story) -> None:
    """The bytes of an id's hash that happen to stand across two marks are no mark."""
    from runfold.fold.content import find_mark

    assert find_mark(bytes(range(24)), bytes(range(4, 12))) == -1
    assert find_mark(bytes(range(24)), bytes(range(12, 20))) == 12
