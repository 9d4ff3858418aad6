"""What answers probes: every path and method as it should, no matter who else is connected; and nothing slips out."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from probing import Figures, Probe
from serving import settings_of
from structlog.testing import capture_logs

from runfold.config import ConfigError
from runfold.health.listening import HealthServer
from runfold.health.metrics import Metrics
from runfold.telemetry import get_logger

Listen = Callable[..., HealthServer]


class Broken:
    """Metrics that cannot be read."""

    def collect(self) -> Any:
        raise RuntimeError("postgresql://me:secret@host")


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Listen]:
    """Makes servers, and closes them with the test."""
    made: list[HealthServer] = []

    def make(health: str = "127.0.0.1:0", families: Any = None) -> HealthServer:
        settings = settings_of(tmp_path, health=health)
        server = HealthServer(settings, families or Metrics().registry, get_logger())
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def probe(listen: Listen) -> Probe:
    return Probe(f"127.0.0.1:{listen().port}")


async def test_metrics_are_prometheus_text(probe: Probe) -> None:
    """/metrics is the text format, under its content type, and parses."""
    reply = await probe.ask("/metrics")
    assert (reply.code, reply.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert Figures(reply.body.decode()).all("build_info")


async def test_what_is_not_known_is_absent(probe: Probe) -> None:
    """A gauge that nobody has set is not 0, and not NaN: it has no sample."""
    found = await probe.metrics()
    assert found.all("last_commit_timestamp_seconds") == {}
    assert "NaN" not in (await probe.ask("/metrics")).body.decode()


async def test_head_is_get_without_its_body(probe: Probe) -> None:
    """HEAD answers with the code and the length of GET."""
    got, asked = await probe.ask("/healthz"), await probe.ask("/healthz", "HEAD")
    assert (asked.code, asked.body) == (503, b"")
    assert asked.headers["Content-Length"] == str(len(got.body))


async def test_a_query_changes_nothing(probe: Probe) -> None:
    """What stands behind a question mark is ignored."""
    assert (await probe.ask("/metrics?name=x")).code == 200


@pytest.mark.parametrize("path", ["/", "/healthz/", "/metrics/../etc/passwd", "/%00"])
async def test_other_paths_are_not_found(probe: Probe, path: str) -> None:
    """Any other path is 404, and the answer names those that there are."""
    reply = await probe.ask(path)
    assert (reply.code, reply.json) == (404, {"paths": ["/healthz", "/readyz", "/metrics"]})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_is_taken(probe: Probe, method: str) -> None:
    """Only GET and HEAD are answered, and the refusal says so."""
    reply = await probe.ask("/healthz", method)
    assert (reply.code, reply.headers["Allow"]) == (405, "GET, HEAD")


async def test_no_error_slips_out(listen: Listen) -> None:
    """An error behind a page is a bare 500 outside, and whole in the log."""
    probe = Probe(f"127.0.0.1:{listen(families=Broken()).port}")
    with capture_logs() as logs:
        reply = await probe.ask("/metrics")
    assert (reply.code, reply.body) == (500, b"500 Internal Server Error\n")
    assert [line["event"] for line in logs] == ["health_page_failed"]


async def test_no_version_is_told(probe: Probe) -> None:
    """The server's header names no version of anything."""
    assert (await probe.ask("/healthz")).headers["Server"] == "runfold"


async def test_idle_connections_shut_out_nobody(listen: Listen) -> None:
    """However many connections say nothing, a probe is answered at once."""
    server = listen()
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    begun = time.monotonic()
    assert (await Probe(f"127.0.0.1:{server.port}").ask("/metrics")).code == 200
    assert time.monotonic() - begun < 4  # before any of them would have timed out
    for connection in idle:
        connection.close()


async def test_a_request_without_end_is_cut(probe: Probe) -> None:
    """A line that is too long is refused, and the connection ended."""
    with closing(socket.create_connection((probe._host, probe._port), timeout=10)) as connection:
        connection.sendall(b"GET /" + b"x" * 70_000)
        answer = connection.recv(1_000)
    assert b" 414 " in answer


def test_a_port_in_use_names_the_setting(listen: Listen) -> None:
    """A port that somebody else has is a wrong setting: which, where it came from, and what to do."""
    taken = f"127.0.0.1:{listen().port}"
    with pytest.raises(ConfigError, match=r"RUNFOLD_HEALTH \(environment\).*in use; name another HOST:PORT, or off"):
        listen(taken)


def test_a_host_that_is_not_ours_names_the_setting(listen: Listen) -> None:
    """So is a host that this machine is not."""
    with pytest.raises(ConfigError, match="RUNFOLD_HEALTH"):
        listen("192.0.2.1:0")


async def test_it_listens_on_version_6(listen: Listen) -> None:
    """An address in brackets is one of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = listen("[::1]:0")
    with closing(socket.create_connection(("::1", server.port), timeout=10)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        body = connection.makefile("rb").read().partition(b"\r\n\r\n")[2]
    assert json.loads(body)["ok"] is False


def test_a_closed_server_is_gone(listen: Listen) -> None:
    """After close nothing listens, and the port can be had again at once."""
    first = listen()
    first.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first.port), timeout=2)
    listen(f"127.0.0.1:{first.port}")
