"""``created``: what a run is without it, what it brings whenever it comes, and what a second one may say."""

from __future__ import annotations

from itertools import permutations

import pytest
from fold_stories import START, Story, event, reason

from runfold.fold.outcome import Flag
from runfold.fold.projection import project
from runfold.fold.run import fold
from runfold_schemas import RunCompleted, RunCreated, RunInProgress, RunModified, RunQueued


def test_a_run_without_created_is_incomplete(story: Story) -> None:
    """A run whose created has not come is an ordinary row, flagged."""
    assert story.tell(RunInProgress, 1) == "applied"
    assert (story.run["status"], story.flags) == ("in_progress", Flag.INCOMPLETE)


def test_a_run_without_created_starts_in_queued(story: Story) -> None:
    """The first status that is told of a run without created is compared with queued."""
    assert story.tell(RunQueued, 1) == "unchanged"


def test_what_only_created_carries_is_empty(story: Story) -> None:
    """Without created, text is "", lists and objects are empty, all else null."""
    story.tell(RunInProgress, 1)
    names = ("assistant_id", "model", "instructions", "tools", "metadata", "expires_at", "temperature")
    assert [story.run[name] for name in names] == ["", "", None, [], {}, None, None]


def test_created_at_without_created_is_the_first_known_time(story: Story) -> None:
    """It is the least ``occurred_at`` of the run's events, not the first one's in the log."""
    story.tell(RunInProgress, 5)
    story.tell(RunQueued, 3)
    story.tell(RunCompleted, 9)
    assert story.run["created_at"] == START + 3


def test_the_thread_without_created_is_the_first_in_the_log(story: Story) -> None:
    """Until created comes, the first event's thread is the run's."""
    story.tell(RunInProgress, 5, thread_id="thread_x")
    story.tell(RunQueued, 3, thread_id="thread_y")
    assert story.run["thread_id"] == "thread_x"


def test_a_late_created_completes_the_run(story: Story) -> None:
    """What only created carries shows once it comes, and the run is no longer incomplete."""
    story.tell(RunInProgress, 5)
    assert story.tell(RunCreated, 2, instructions="x") == "applied"
    run = story.run
    assert (run["model"], run["instructions"], run["created_at"]) == ("gpt-4o", "x", START + 2)
    assert story.flags == Flag(0)


def test_a_late_created_brings_its_own_time_and_thread(story: Story) -> None:
    """Created's time and thread count, even where other events told earlier ones."""
    story.tell(RunInProgress, 1, thread_id="thread_x")
    story.tell(RunCreated, 3)
    assert (story.run["created_at"], story.run["thread_id"]) == (START + 3, "thread_1")


def test_created_stands_before_the_whole_timeline(story: Story) -> None:
    """A created that comes last leaves the status where it is."""
    story.number(RunInProgress, 2)
    story.number(RunCompleted, 3)
    story.number(RunCreated, 9)
    assert story.run["status"] == "completed"


def test_metadata_told_before_created_stays(story: Story) -> None:
    """What a modified told is not undone by a created that comes later."""
    story.tell(RunModified, 5, metadata={"a": "new"})
    story.tell(RunCreated, 0, metadata={"a": "old"})
    assert story.run["metadata"] == {"a": "new"}


def test_an_equal_second_created_is_unchanged(story: Story) -> None:
    """A second created that says the same under another id changes nothing."""
    story.tell(RunCreated, 0, id="x", metadata={"a": "1"}, expires_at=5)
    before = story.run
    assert story.tell(RunCreated, 1, id="y", metadata={}, expires_at=None) == "unchanged"
    assert story.run == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("thread_id", "thread_2"),
        ("assistant_id", "asst_2"),
        ("model", "o3"),
        ("instructions", "x"),
        ("tools", [{"type": "x"}]),
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("max_prompt_tokens", 5),
        ("max_completion_tokens", 5),
        ("truncation_strategy", {"type": "auto"}),
        ("response_format", "auto"),
        ("tool_choice", "auto"),
        ("parallel_tool_calls", True),
        ("reasoning_effort", "low"),
        ("tool_resources", {"a": {}}),
    ],
)
def test_a_second_created_with_other_settings_is_rejected(story: Story, field: str, value: object) -> None:
    """A second created that contradicts the first is a dead letter that names the field."""
    story.tell(RunCreated, 0, id="x")
    verdict = story.tell(RunCreated, 1, id="y", **{field: value})
    assert (reason(verdict), field in verdict.detail) == ("second_created", True)


def test_tools_with_other_key_order_are_the_same(story: Story) -> None:
    """Settings are compared as values: the order of keys says nothing."""
    story.tell(RunCreated, 0, id="x", tools=[{"a": 1, "b": 2}])
    assert story.tell(RunCreated, 1, id="y", tools=[{"b": 2, "a": 1}]) == "unchanged"


def test_a_rejected_created_leaves_no_mark(story: Story) -> None:
    """A second created that was rejected is rejected again when it comes again: it is no duplicate."""
    story.tell(RunCreated, 0, id="x")
    assert reason(story.tell(RunCreated, 1, id="y", model="o3")) == "second_created"
    assert reason(story.tell(RunCreated, 1, id="y", model="o3")) == "second_created"


def test_another_thread_is_applied_and_flagged(story: Story) -> None:
    """An event that names another thread than created counts, and the run is flagged."""
    story.tell(RunCreated, 0)
    assert story.tell(RunInProgress, 1, thread_id="thread_2") == "applied"
    assert (story.run["thread_id"], story.flags) == ("thread_1", Flag.THREAD)


def test_another_thread_before_created_is_flagged_too(story: Story) -> None:
    """The flag does not depend on which of the two comes first."""
    story.tell(RunInProgress, 1, thread_id="thread_2")
    story.tell(RunCreated, 0)
    assert story.flags == Flag.THREAD


def test_any_order_of_a_short_run_is_the_same_run() -> None:
    """All orders of five numbered events of one source give one Run."""
    kinds = (RunCreated, RunInProgress, RunModified, RunQueued, RunCompleted)
    told = [
        event(kind, number, source="a", sequence=number, **({"metadata": {"a": "1"}} if kind is RunModified else {}))
        for number, kind in enumerate(kinds, 1)
    ]
    runs = []
    for order in permutations(told):
        state = None
        for each in order:
            state, _ = fold(state, each)
        runs.append(project(state))
    assert all(run == runs[0] for run in runs)
