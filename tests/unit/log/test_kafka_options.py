"""What a ``kafka://`` URL says, without any Kafka."""

from __future__ import annotations

import pytest

from runfold.config import ConfigError, load_settings
from runfold.log.kafka_options import Address, KafkaOptions, address_of


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://localhost/run-events", "localhost:9092"),
        ("kafka://localhost:9093/run-events", "localhost:9093"),
        ("kafka://one:1,two,three:3/run-events", "one:1,two:9092,three:3"),
        ("kafka://[::1]/run-events", "[::1]:9092"),
        ("kafka://[::1]:9093/run-events", "[::1]:9093"),
    ],
)
def test_servers_have_a_port(url, servers):
    """Several servers, IPv6 ones too, are named with Kafka's usual port where none is told."""
    assert address_of(url) == Address(servers, "run-events")


@pytest.mark.parametrize(
    "url",
    [
        "kafka://localhost:9092",
        "kafka://localhost:9092/",
        "kafka:///run-events",
        "kafka://localhost:9092/run events",
        "kafka://localhost:9092/a/b",
        "kafka://localhost:9092/..",
        "kafka://localhost:port/run-events",
        "kafka://one,,two/run-events",
        "kafka://user:secret@localhost/run-events",
        "sqlite:///runfold.log.db",
    ],
)
def test_what_is_no_address_is_refused(url):
    """A URL without servers or with a name that Kafka does not take is refused with what is wanted."""
    with pytest.raises(ValueError, match="HOST:9092/TOPIC"):
        address_of(url)


def test_a_wrong_log_is_told_with_all_else_that_is_wrong():
    """Every wrong setting of Kafka's is named at once, each with its variable."""
    with pytest.raises(ConfigError) as told:
        load_settings(
            environment={
                "RUNFOLD_LOG": "kafka://localhost",
                "RUNFOLD_KAFKA_SECURITY_PROTOCOL": "tls",
                "RUNFOLD_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "file:///etc/passwd",
                "RUNFOLD_KAFKA_BATCH_SIZE": "-1",
                "RUNFOLD_KAFKA_ACKS": "0",
            }
        )
    for named in (
        "RUNFOLD_LOG",
        "SECURITY_PROTOCOL",
        "TOKEN_ENDPOINT_URL",
        "BATCH_SIZE",
        "RUNFOLD_KAFKA_ACKS: no such",
    ):
        assert named in str(told.value)


def test_options_left_out_are_kafkas_own_names_and_our_choices():
    """Nothing set: the options that the adapter was measured with."""
    assert load_settings(environment={}).kafka == KafkaOptions()
