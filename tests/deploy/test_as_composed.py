"""What `deploy/compose.yaml` says, carried out: Kafka and PostgreSQL set up by it, and its job and its worker on them.

Where its containers have names and ports of their own, loopback and free ports stand in; all else is as it is written there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import httpx2
import kafka_broker
import pytest
from deployment import SERVICES, worker_environment
from kafka_broker import Node
from kafka_cluster import Cluster
from kafka_fixtures import skip_without_kafka_tools
from postgres_fixtures import administer, away_from_loops

PASSWORD = "composed"
EVENT = b'{"type":"thread.run.queued","run_id":"run_1","thread_id":"thread_1"}\n'

# As on a read-only root with /tmp in memory: whatever Python would write elsewhere is refused as the system would refuse it.
READ_ONLY = """
import errno, os, sys
WRITES = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate"}
def refuse(event, told):
    writes = event in WRITES or (event == "open" and told[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if writes and not str(told[0]).startswith(("/tmp/", "/dev/")):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), told[0])
sys.addaudithook(refuse)
from runfold.cli.exits import run
sys.exit(run(sys.argv[1:]))
"""


def here(text: str, node: Node) -> str:
    """The text with the addresses of the composed Kafka replaced by those that it has here."""
    ports = {"9092": node.port, "9093": node.controller_port, "19092": node.spare[0]}
    return re.sub(r"(//|@)[a-z]*:(\d+)", lambda found: f"{found[1]}127.0.0.1:{ports[found[2]]}", text)


@pytest.fixture
def kafka():
    """The broker's node; its server.properties are those that its image makes of the environment."""
    skip_without_kafka_tools()

    def properties(node, nodes, folder, *, extra):
        told = {
            name.removeprefix("KAFKA_").lower().replace("_", "."): here(value, node)
            for name, value in SERVICES["kafka"]["environment"].items()
            if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
        }
        return told | {"log.dirs": str(folder / "data")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_broker, "properties", properties)
        cluster = Cluster.start()
    with cluster:
        yield cluster.nodes[0]


@pytest.fixture
def store(postgres_own_server):
    """The URL of the workers' store; the database's image makes such an owner and asks for the password in this way."""
    server, told = postgres_own_server, SERVICES["postgres"]["environment"]
    (server.data / "pg_hba.conf").write_text(
        f"host all {told['POSTGRES_USER']} 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n"
    )
    statements = (
        f"create role {told['POSTGRES_USER']} superuser login password '{PASSWORD}'",
        f"create database {told['POSTGRES_DB']} owner {told['POSTGRES_USER']}",
        "select pg_reload_conf()",
    )
    away_from_loops(lambda: administer(server.url, *statements))
    return SERVICES["worker"]["environment"]["RUNFOLD_STORE"].replace("postgres:5432", f"127.0.0.1:{server.port}")


@pytest.fixture
def run(tmp_path):
    """Runs a command line with the environment of the worker, where nothing can be written but /tmp."""
    given = worker_environment() | {"PGPASSWORD": PASSWORD, "RUNFOLD_HEALTH": "127.0.0.1:0"}

    def call(*words, stdin=b"", **more):
        command = [sys.executable, "-c", READ_ONLY, *words]
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | given | more
        done = subprocess.run(
            command, input=stdin, env=environment, cwd=tmp_path, capture_output=True, check=False, timeout=90
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return call


def test_job_and_worker_do_their_work(run, kafka, store, tmp_path):
    """The job makes the topic, once; what is published from this machine is folded, and verified, on a read-only root."""
    log = here(SERVICES["worker"]["environment"]["RUNFOLD_LOG"], kafka)
    from_host = f"kafka://127.0.0.1:{kafka.port}/run-events"
    assert [run(*SERVICES["topic"]["command"], RUNFOLD_LOG=log)[0] for _ in range(2)] == [0, 0]
    assert run("publish", "-", stdin=EVENT, RUNFOLD_LOG=from_host)[0] == 0
    code, _, told = run(*SERVICES["worker"]["command"], "--until-end", RUNFOLD_LOG=log, RUNFOLD_STORE=store)
    assert code == 0, told
    assert run("runs", "get", "run_1", "--json", RUNFOLD_STORE=store)[1].startswith('{"id":"run_1"')
    code, _, told = run("replay", "verify", RUNFOLD_LOG=log, RUNFOLD_STORE=store, RUNFOLD_DATA=str(tmp_path))
    assert code == 0, told


def test_api_answers_once_there_is_a_key(run, store, tmp_path):
    """Without a key it does not begin; with one it answers whoever bears it, on a read-only root, and is well."""
    words = [*SERVICES["api"]["command"][:-1], "0"]
    assert run("store", "migrate", RUNFOLD_STORE=store)[0] == 0
    code, _, told = run(*words, RUNFOLD_STORE=store)
    assert (code, "runfold keys create" in told) == (2, True)
    key = run("keys", "create", RUNFOLD_STORE=store)[1].strip()
    given = worker_environment() | {"PGPASSWORD": PASSWORD, "RUNFOLD_STORE": store}
    command = [sys.executable, "-c", READ_ONLY, *words]
    with subprocess.Popen(command, env={"PATH": os.environ["PATH"]} | given, stderr=subprocess.PIPE, text=True) as api:
        try:
            port = next(found[1] for line in api.stderr if (found := re.search(r"listening on http://\S+:(\d+)", line)))
            url = f"http://127.0.0.1:{port}"
            bearer = {"authorization": f"Bearer {key}"}
            assert httpx2.get(f"{url}/v1/runfold/runs", headers=bearer, timeout=30).json()["data"] == []
            assert httpx2.get(f"{url}/v1/runfold/runs", timeout=30).status_code == 401
            _, _, *check = SERVICES["api"]["healthcheck"]["test"]
            asked = [word.replace("127.0.0.1:8000/", f"127.0.0.1:{port}/") for word in check]
            assert subprocess.run([sys.executable, *asked], check=False, timeout=30).returncode == 0
        finally:
            api.terminate()


def test_password_is_asked_for(run, store):
    """The store is not open to whoever reaches it: another password is refused."""
    code, _, told = run("store", "migrate", RUNFOLD_STORE=store, PGPASSWORD="another")
    assert (code, "password" in told) == (2, True)


def test_what_has_to_write_cannot(run):
    """The root of these tests is read-only indeed: an embedded store, which has to be written, cannot be made on it."""
    code, _, told = run("store", "migrate", RUNFOLD_STORE="sqlite:///folder/store.db")
    assert (code, "Read-only file system" in told) == (3, True)
