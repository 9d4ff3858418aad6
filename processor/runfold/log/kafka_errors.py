"""What aiokafka's errors mean to a person: the one table that turns them into the errors of ``log/port.py``.

An error that is in no row is a passing one: those who wait for Kafka wait on, until their own patience ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors

from runfold.log.kafka_options import Address
from runfold.log.port import LogError, LogMissing, LogUnreachable

_REFUSED = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_BUGS = (errors.IllegalStateError, errors.IllegalArgumentError)


def meaning_of(error: Exception, address: Address) -> LogError:
    """The error to raise instead, naming the setting and the remedy."""
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return missing(address)
    if isinstance(error, _REFUSED):
        return LogError(
            f"RUNFOLD_KAFKA_SECURITY_PROTOCOL, RUNFOLD_KAFKA_SASL_*: {address.servers} refuses what was asked of "
            f"{address.topic} ({told}); name a user that may, or allow it there"
        )
    if isinstance(error, _TOO_LARGE):
        return LogError(
            f"RUNFOLD_KAFKA_BATCH_SIZE: the topic {address.topic} takes no batches of this size ({told}); raise its "
            "max.message.bytes to 1048588 or more (`runfold topic check`), or lower the setting"
        )
    return LogUnreachable(f"RUNFOLD_LOG: Kafka at {address.servers} does not do what was asked ({told})")


def missing(address: Address) -> LogMissing:
    """There is no such topic."""
    return LogMissing(
        f"RUNFOLD_LOG: {address.servers} has no topic {address.topic}; make it with `runfold topic create`, "
        "or correct the name"
    )


def made_anew(address: Address) -> LogMissing:
    """The topic of this name is not the one that was opened."""
    return LogMissing(
        f"RUNFOLD_LOG: the topic {address.topic} was deleted and made anew while it was read or written; it is another "
        "log now. Start again, with RUNFOLD_STORE at a new store, to use what is there"
    )


@contextmanager
def told_to_a_person(address: Address) -> Iterator[None]:
    """Raise what aiokafka raises as errors of the log port."""
    try:
        yield
    except _BUGS:
        raise
    except (errors.KafkaError, OSError, TimeoutError) as error:
        raise meaning_of(error, address) from error
