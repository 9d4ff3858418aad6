"""Batches that no client of Kafka in Python would write, sent as they are."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from runfold.log.kafka_options import Address

_CRC_AT, _SUMMED_FROM = 17, 21


async def write_with_header(address: Address, values: Sequence[bytes], *, name: bytes, partition: int = 0) -> None:
    """One batch of a run's records, the second of which has a header whose name is these bytes."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1_000_000,
    )
    stand_in = "~" * len(name)
    for offset, value in enumerate(values):
        headers = [(stand_in, b"kept")] if offset == 1 else []
        assert builder.append(offset, 1_780_000_000_000, b"run_1", value, headers)
    batch = bytearray(bytes(builder.build()).replace(stand_in.encode(), name))
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[_SUMMED_FROM:])))
    client = AIOKafkaClient(bootstrap_servers=address.servers)
    await client.bootstrap()
    try:
        client.set_topics([address.topic])
        await client.force_metadata_update()
        leader = client.cluster.leader_for_partition(TopicPartition(address.topic, partition))
        request = ProduceRequest(
            transactional_id=None,
            required_acks=-1,
            timeout=5_000,
            topics=[(address.topic, [(partition, bytes(batch))])],
        )
        answer = await client.send(leader, request)
        ((_, ((_, error, *_),)),) = answer.topics
        assert error == 0
    finally:
        await client.close()
