"""What one Kafka process is given: its server.properties, its command line, and how to ask whether it answers.

KRaft mode: every process is broker and controller, so that one of them is a whole cluster and three are a real quorum.
Listens on 127.0.0.1 only. Standard library only.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HEAP = "512m"

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c{1})%n%throwable
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class Node(NamedTuple):
    """One process: its number from 1, its port for clients, the one for its fellows, and some for more listeners."""

    number: int
    port: int
    controller_port: int
    spare: Sequence[int]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. They are told apart by being held at the same time."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def properties(node: Node, nodes: Sequence[Node], folder: Path, *, extra: Mapping[str, str]) -> dict[str, str]:
    """The server.properties of a node. ``extra`` goes before what stands here, save that listeners are added up."""
    replicas = str(min(3, len(nodes)))
    voters = ",".join(f"{each.number}@127.0.0.1:{each.controller_port}" for each in nodes)
    extra = dict(extra)
    own = f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}"
    more = extra.pop("listeners", "")
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.number),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{own},{more}" if more else own,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,"
        "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": "2" if len(nodes) > 2 else "1",
        "offsets.topic.num.partitions": "1",  # 50 of them take seconds to make
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": "1",
        "broker.session.timeout.ms": "3000",  # a killed broker is noticed soon
        "controlled.shutdown.enable": "true" if len(nodes) > 1 else "false",
        "log.retention.check.interval.ms": "1000",
        "log.initial.task.delay.ms": "1000",
        "delete.topic.enable": "true",
    } | extra


def write_configuration(node: Node, nodes: Sequence[Node], folder: Path, *, extra: Mapping[str, str]) -> None:
    """Write server.properties and log4j2.properties into the node's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = properties(node, nodes, folder, extra=extra)
    lines = [f"{name}={value}" for name, value in settings.items()]
    (folder / "server.properties").write_text("\n".join(lines) + "\n")
    (folder / "log4j2.properties").write_text(_LOG4J)


def java(class_path: str, folder: Path, main: str, *arguments: str, heap: str = HEAP) -> list[str]:
    """A command line that runs a class of Kafka's. log4j2 must be told where its configuration is."""
    return [
        "java",
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        class_path,
        main,
        *arguments,
    ]


def format_storage(class_path: str, folder: Path, cluster_id: str) -> None:
    """Make the node's data folder. Raises CalledProcessError with what Kafka says."""
    settings = str(folder / "server.properties")
    command = java(
        class_path, folder, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", settings, heap="128m"
    )
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own words


def answers(port: int) -> bool:
    """Whether something on the port answers Kafka's question for the versions it speaks.

    A KRaft broker does so only once its cluster has let it in, so that topics can be made then.
    """
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(8)) == 8
    except OSError:
        return False
