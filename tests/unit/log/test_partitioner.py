"""Keys go to the partitions Kafka's own producer gives them."""

from __future__ import annotations

import pytest

from runfold.log.partitioner import key_hash, murmur2

# From org.apache.kafka.common.utils.UtilsTest.testMurmur2, as Java's signed numbers.
KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), KAFKA_VECTORS.items())
def test_murmur2_is_kafkas(key, signed):
    """The hash equals that of Kafka's own test vectors."""
    assert murmur2(key) == signed % 2**32


@pytest.mark.parametrize(("key", "signed"), KAFKA_VECTORS.items())
def test_the_sign_bit_is_cut_off(key, signed):
    """The hash that partitions are taken from has no sign, as in Kafka's ``toPositive``."""
    assert key_hash(key) == signed & 0x7FFFFFFF


def test_the_memory_for_hashes_is_bounded():
    """No more than a fixed number of keys is remembered."""
    assert key_hash.cache_parameters()["maxsize"] == 65_536
