"""`runfold topic`: what a topic is made with, and what is said of one that endangers data."""

from __future__ import annotations

import json
import uuid

import pytest

from runfold.cli.exits import run
from runfold.log.kafka_topic import DAY, FOREVER, settings_of


@pytest.fixture
def runfold(kafka, monkeypatch, capsys):
    """Runs a command line on a topic, and returns its exit code and what it printed."""

    def of_topic(name, *tokens):
        monkeypatch.setenv("RUNFOLD_LOG", f"kafka://{kafka}/{name}")
        code = run(["topic", *tokens])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return of_topic


@pytest.fixture
def new_name(admin):
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    for done in admin.delete_topics([name]).values():
        done.exception()


def dangers(printed):
    found = [json.loads(line) for line in printed.splitlines()]
    return {each["setting"] for each in found if each["endangers"]}


def test_a_made_topic_endangers_nothing_but_by_its_one_broker(runfold, new_name):
    """What create makes, check finds right, save what one broker cannot give."""
    assert runfold(new_name, "create")[0] == 0
    code, printed, _ = runfold(new_name, "check", "--json")
    assert (code, dangers(printed)) == (1, {"replication.factor", "min.insync.replicas"})


def test_create_tells_what_was_made(runfold, new_name):
    """Partitions and retention are stated, for both are decisions."""
    _, printed, _ = runfold(new_name, "create", "--partitions", "3", "--retention", "90d", "--json")
    made = json.loads(printed)
    assert (made["partitions"], made["retention.ms"], made["cleanup.policy"]) == ("3", str(90 * DAY), "delete")


def test_a_topic_is_made_once(runfold, new_name):
    """Making a topic that is there is refused, and changes nothing."""
    runfold(new_name, "create", "--partitions", "3")
    code, _, told = runfold(new_name, "create", "--partitions", "5")
    assert (code, "there is a topic" in told) == (2, True)


def test_checking_a_missing_topic_is_answered_with_the_remedy(runfold):
    """There is nothing to check, and what to do about it is said."""
    code, _, told = runfold("test-not-there", "check")
    assert (code, "runfold topic create" in told) == (3, True)


def test_more_copies_than_brokers_are_refused(runfold, new_name):
    """Kafka's own reason is passed on."""
    code, _, told = runfold(new_name, "create", "--replicas", "9")
    assert (code, "replication" in told.lower()) == (2, True)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"cleanup_policy": "compact"}, "cleanup.policy"),
        ({"cleanup_policy": "compact,delete"}, "cleanup.policy"),
        ({"retention_ms": str(2 * DAY)}, "retention.ms"),
        ({"retention_bytes": "1000000"}, "retention.bytes"),
        ({"unclean_leader_election_enable": "true"}, "unclean.leader.election.enable"),
        ({"max_message_bytes": "100000"}, "max.message.bytes"),
        ({"retention_ms": str(30 * DAY)}, "message.timestamp.type"),
    ],
)
def test_each_dangerous_setting_is_named(make_topic, runfold, settings, named):
    """Each setting that endangers data is named, and the exit code says so."""
    topic = make_topic(1, **settings)
    code, printed, _ = runfold(topic.topic, "check", "--json")
    assert (code, named in dangers(printed)) == (1, True)


def test_retention_by_our_own_stamps_is_no_danger(make_topic, runfold):
    """A month's retention is stated, and no danger where Kafka stamps the records."""
    topic = make_topic(1, retention_ms=str(30 * DAY), message_timestamp_type="LogAppendTime")
    _, printed, _ = runfold(topic.topic, "check", "--json")
    assert dangers(printed) == {"replication.factor", "min.insync.replicas"}


def test_the_table_names_dangers_for_people(make_topic, runfold):
    """Without --json there is a table, and a last line that counts."""
    _, printed, _ = runfold(make_topic(1, retention_bytes="1000000").topic, "check")
    assert "retention.bytes" in printed
    assert "3 settings endanger data" in printed


@pytest.mark.parametrize(("copies", "least"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_one_broker_may_be_down(copies, least):
    """Of the copies so many have to be in sync that losing one stops nobody, and losing a second loses nothing."""
    assert settings_of(copies=copies, retention_ms=FOREVER)["min.insync.replicas"] == least


@pytest.mark.parametrize("span", ["7", "0d", "1m", "forever and a day"])
def test_a_time_that_is_none_is_refused(runfold, span):
    """A retention that cannot be understood makes no topic."""
    code, _, told = runfold("test-not-made", "create", "--retention", span)
    assert (code, "90d" in told or "forever" in told) == (2, True)


def test_a_log_in_a_file_is_no_topic(monkeypatch, capsys):
    """`runfold topic` on an embedded log says what is wanted."""
    monkeypatch.setenv("RUNFOLD_LOG", "sqlite:///x.db")
    assert run(["topic", "check"]) == 2
    assert "is no topic" in capsys.readouterr().err


def test_if_missing_makes_a_topic_once(runfold, new_name, admin):
    """A start-up script that is run again finds its topic as it was, and goes on."""
    runfold(new_name, "create", "--partitions", "3", "--if-missing")
    code, printed, told = runfold(new_name, "create", "--partitions", "5", "--if-missing")
    assert (code, printed, "there is a topic" in told) == (0, "", True)
    assert len(admin.list_topics(new_name).topics[new_name].partitions) == 3
