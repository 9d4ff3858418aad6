"""A cluster of one Kafka process or three, as its users see it: started, joined, hurt and mended, and left.

Its processes belong to ``kafka_guard.py``, which ends them when the last user has left or died. Standard library only.
"""

from __future__ import annotations

import base64
import fcntl
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kafka_broker
from kafka_broker import Node
from kafka_jars import HERE, NoKafka, class_path

START_SECONDS = 120.0
"""A node takes 5 s of CPU to start: on a machine with ten other things to do on two cores, half a minute and more."""
_PORTS = 5


class Cluster:
    """One user's hold on a cluster, made by :meth:`start` or :meth:`join`; closing it lets go.

    ``bootstrap_servers`` is where clients connect; nodes are numbered from 1.
    """

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "cluster.json").read_text())
        self.folder = folder
        self.nodes = [Node(*each) for each in told["nodes"]]
        self.class_path: str = told["class_path"]
        self._guard = socket.socket(socket.AF_UNIX)
        try:
            self._guard.connect(str(folder / "guard.sock"))
        except OSError:
            self._guard.close()
            raise
        self._answers = self._guard.makefile("rb")

    @classmethod
    def start(cls, brokers: int = 1, *, settings: Mapping[str, str] | None = None, port: int | None = None) -> Self:
        """Start a cluster on free ports and wait until it answers.

        ``settings`` are added to each server.properties; ``{port0}`` to ``{port2}`` in them stand for the spare ports of
        the node. ``port`` is where the first node listens, if it matters. Raises NoKafka where it cannot be had or does not
        start.
        """
        jars = class_path()
        ports = iter(kafka_broker.free_ports(_PORTS * brokers))
        nodes = [
            Node(number, next(ports), next(ports), [next(ports) for _ in range(_PORTS - 2)])
            for number in range(1, brokers + 1)
        ]
        if port is not None:
            nodes[0] = nodes[0]._replace(port=port)
        folder = Path(tempfile.mkdtemp(prefix="runfold-kafka-"))
        (folder / "cluster.json").write_text(json.dumps({"nodes": nodes, "class_path": jars}))
        cluster_id = _new_id()
        cluster = cls._guarded(folder)
        try:
            for node in nodes:
                cluster.launch(node, cluster_id, settings or {})
            cluster.wait_until_up()
        except BaseException:
            cluster.close()
            raise
        return cluster

    @classmethod
    def _guarded(cls, folder: Path) -> Self:
        command = [sys.executable, str(HERE / "kafka_guard.py"), str(folder)]
        with (folder / "guard.log").open("wb") as output:
            subprocess.run(  # noqa: S603 - our own words; in a session of its own Ctrl-C does not reach it
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, check=True
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return cls(folder)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @classmethod
    def join(cls, pointer: Path) -> Self:
        """The cluster that ``pointer``, a file, names; the first who comes starts it. For processes of one test run."""
        with _locked(pointer.with_suffix(".lock")):
            if pointer.exists():
                try:
                    return cls(Path(pointer.read_text()))
                except OSError:
                    pass  # its last user has left meanwhile
            cluster = cls.start()
            pointer.write_text(str(cluster.folder))
            return cluster

    def launch(self, node: Node, cluster_id: str, settings: Mapping[str, str]) -> None:
        """Start a node for the first time, with an empty data folder; does not wait until it answers."""
        folder = self._folder_of(node)
        extra = dict(settings)
        for index, port in enumerate(node.spare):
            extra = {name: value.replace(f"{{port{index}}}", str(port)) for name, value in extra.items()}
        kafka_broker.write_configuration(node, self.nodes, folder, extra=extra)
        kafka_broker.format_storage(self.class_path, folder, cluster_id)
        self._order(node, "start", command=self._command(node))

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def kill(self, number: int = 1) -> None:
        """End a node as a power cut would, and wait until it is gone."""
        self._end(number, signal.SIGKILL)

    def stop(self, number: int = 1) -> None:
        """End a node as its operator would, and wait until it is gone."""
        self._end(number, signal.SIGTERM)

    def freeze(self, number: int = 1) -> None:
        """Stop a node where it stands: it keeps its connections and answers nobody."""
        self._order(self._node(number), "signal", signal=signal.SIGSTOP)

    def thaw(self, number: int = 1) -> None:
        """Let a frozen node go on."""
        self._order(self._node(number), "signal", signal=signal.SIGCONT)

    def restart(self, number: int = 1) -> None:
        """Start a node that was ended, with the data it had, and wait until the cluster answers."""
        self._order(self._node(number), "start", command=self._command(self._node(number)))
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Wait until every node answers. Raises NoKafka with what a node said last, where one does not."""
        deadline = time.monotonic() + START_SECONDS
        for node in self.nodes:
            while not kafka_broker.answers(node.port):
                code = self._order(node, "wait", seconds=0.05)["code"]
                if code is not None or time.monotonic() > deadline:
                    raise NoKafka(f"Kafka node {node.number} does not answer (exit code {code}):\n{self.said(node)}")

    def said(self, node: Node) -> str:
        """The end of what a node logged."""
        return (self.folder / f"node-{node.number}.log").read_text(errors="replace")[-3000:]

    def tool(self, main: str, *arguments: str, given: str | None = None) -> str:
        """Run a command line tool of Kafka's, by its class, and return what it prints. Raises CalledProcessError."""
        command = kafka_broker.java(self.class_path, self._folder_of(self.nodes[0]), main, *arguments, heap="256m")
        return subprocess.run(  # noqa: S603 - our own words
            command, input=given, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def close(self) -> None:
        """Let go. The cluster ends with its last user, its data too, and that one waits for its end."""
        if self._guard.fileno() >= 0:
            with suppress(OSError):  # it may have been killed
                self._guard.shutdown(socket.SHUT_WR)
                self._answers.read()
        self._answers.close()
        self._guard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _node(self, number: int) -> Node:
        return self.nodes[number - 1]

    def _folder_of(self, node: Node) -> Path:
        return self.folder / f"node-{node.number}"

    def _command(self, node: Node) -> list[str]:
        folder = self._folder_of(node)
        return kafka_broker.java(self.class_path, folder, "kafka.Kafka", str(folder / "server.properties"))

    def _end(self, number: int, how: signal.Signals) -> None:
        self._order(self._node(number), "signal", signal=how)
        if self._order(self._node(number), "wait", seconds=30)["code"] is None:
            raise TimeoutError(f"Kafka node {number} does not end")

    def _order(self, node: Node, what: str, **more: Any) -> dict[str, Any]:
        self._guard.sendall(json.dumps({"do": what, "name": f"node-{node.number}", **more}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._answers.readline())
        return answer


def _new_id() -> str:
    """An id as Kafka makes them: one that begins with a dash would be taken for an option."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
