"""Which partition a key belongs to: exactly what Kafka's own Java producer does.

A log that is copied to Kafka keeps its partitions only because of this, and so keeps its runs whole. Nothing here may ever
change: an open run would be split over two partitions.
"""

from __future__ import annotations

import struct
from functools import lru_cache

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The 32-bit hash of ``org.apache.kafka.common.utils.Utils.murmur2``, as an unsigned number."""
    whole = len(key) & ~3
    mixed = (_SEED ^ len(key)) & _MASK
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        scrambled = (word * _MULTIPLIER) & _MASK
        scrambled = ((scrambled ^ (scrambled >> 24)) * _MULTIPLIER) & _MASK
        mixed = ((mixed * _MULTIPLIER) & _MASK) ^ scrambled
    if rest := key[whole:]:
        mixed = ((mixed ^ int.from_bytes(rest, "little")) * _MULTIPLIER) & _MASK
    mixed = ((mixed ^ (mixed >> 13)) * _MULTIPLIER) & _MASK
    return mixed ^ (mixed >> 15)


@lru_cache(maxsize=65_536)  # a hash in Python costs 4 us, and the events of one run come close together
def key_hash(key: bytes) -> int:
    """The hash without its sign bit: modulo the number of partitions it is the key's partition."""
    return murmur2(key) & 0x7FFFFFFF
