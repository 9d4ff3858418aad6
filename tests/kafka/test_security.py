"""TLS and SASL, against a Kafka that asks for them; and what is said where something is not as it should be."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka_cluster import Cluster
from kafka_fixtures import create_topic, skip_without_kafka_tools

from runfold.config import effective, load_settings
from runfold.log.kafka_options import Address, KafkaOptions
from runfold.log.kafka_security import TokenProvider
from runfold.log.port import LogError, Message

TOPIC = "secured"
_PACKAGE = "org.apache.kafka.common.security"
_JAAS = {
    "plain": f'{_PACKAGE}.plain.PlainLoginModule required user_alice="secret" user_bob="secret";',
    "scram-sha-256": f"{_PACKAGE}.scram.ScramLoginModule required;",
    "scram-sha-512": f"{_PACKAGE}.scram.ScramLoginModule required;",
    "oauthbearer": f'{_PACKAGE}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="alice";',
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with key and certificate (PEM) of the broker and of a client."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("broker", "client"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "broker.all").write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())
    return folder


@pytest.fixture(scope="module")
def secured(keys):
    """A cluster that wants TLS with our certificate, or a login, or both; only alice and the client may anything."""
    skip_without_kafka_tools()
    settings = {
        "listeners": ",".join(
            f"{protocol}://127.0.0.1:{{port{index}}}"
            for index, protocol in enumerate(("SSL", "SASL_PLAINTEXT", "SASL_SSL"))
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keys / "broker.all"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(keys / "client.pem"),
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:alice;User:CN=client",
    } | {
        f"listener.name.{listener}.{mechanism}.sasl.jaas.config": jaas
        for listener in ("sasl_plaintext", "sasl_ssl")
        for mechanism, jaas in _JAAS.items()
    }
    with Cluster.start(settings=settings) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
        create_topic(admin, TOPIC, partitions=1)
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            wanted = UserScramCredentialUpsertion("alice", ScramCredentialInfo(mechanism, 4096), b"secret")
            for done in admin.alter_user_scram_credentials([wanted]).values():
                done.result(30)
        yield cluster


@pytest.fixture
def address(secured):
    """The address of a listener, by its protocol."""
    spare = dict(zip(("SSL", "SASL_PLAINTEXT", "SASL_SSL"), secured.nodes[0].spare, strict=True))
    return lambda protocol: Address(f"127.0.0.1:{spare[protocol]}", TOPIC)


ALICE = {"sasl_username": "alice", "sasl_password": "secret"}


async def write_and_read(opened, address, **options):
    """A record there and back, by sink, source and all their connections."""
    sink, source = await opened.sink(address, **options), await opened.source(address, **options)
    (place,) = await sink.append([Message(b"run_1", b"value")])
    source.assign({0: place.offset})
    async with asyncio.timeout(30):
        while not (batch := await source.fetch(most_records=1, most_bytes=100, wait=1)):
            pass
    return batch[0][0].value


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_login_with_a_password(opened, address, mechanism):
    """Each mechanism with a password works, for writing and for reading."""
    options = ALICE | {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism}
    assert await write_and_read(opened, address("SASL_PLAINTEXT"), **options) == b"value"


async def test_a_login_within_tls(opened, address, keys):
    """A password goes through TLS whose certificate is checked against our own authority."""
    options = ALICE | {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}
    assert await write_and_read(opened, address("SASL_SSL"), **options, ssl_cafile=str(keys / "broker.pem")) == b"value"


async def test_tls_with_a_certificate_of_ours(opened, address, keys):
    """Where the broker wants to know who we are by certificate, it is shown one."""
    options = {
        "security_protocol": "SSL",
        "ssl_cafile": str(keys / "broker.pem"),
        "ssl_certfile": str(keys / "client.pem"),
        "ssl_keyfile": str(keys / "client.key"),
    }
    assert await write_and_read(opened, address("SSL"), **options) == b"value"


@pytest.fixture
def endpoint():
    """A token endpoint: gives tokens for the right secret, and remembers what it was asked."""
    asked: list[str] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append(form)
            right = "client_secret=right" in form
            self.send_response(200 if right else 401)
            self.end_headers()
            if right:
                self.wfile.write(json.dumps({"access_token": token(), "expires_in": 100}).encode())

        def log_message(self, *_):
            """Nothing on stderr."""

    def token():
        claims = {"sub": "alice", "iat": int(time.time()), "exp": int(time.time()) + 600}
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)]
        return (b".".join(parts) + b".").decode()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.asked = asked
    server.options = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_token_endpoint_url": f"http://127.0.0.1:{server.server_port}/token",
        "sasl_oauthbearer_client_id": "runfold",
        "sasl_oauthbearer_client_secret": "right",
        "sasl_oauthbearer_scope": "kafka read",
    }
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_login_with_a_token(opened, address, endpoint):
    """A token comes from the endpoint by id, secret and scope, and Kafka takes it."""
    assert await write_and_read(opened, address("SASL_PLAINTEXT"), **endpoint.options) == b"value"
    assert "grant_type=client_credentials" in endpoint.asked[0]
    assert "scope=kafka+read" in endpoint.asked[0]


async def test_a_token_is_asked_for_anew_before_it_ends(endpoint):
    """Many connections share a token; a fifth of its life before its end another one is fetched."""
    now = 0.0
    provider = TokenProvider(KafkaOptions(**endpoint.options), clock=lambda: now)
    await asyncio.gather(*(provider.token() for _ in range(5)))
    now = 79.0
    await provider.token()
    assert len(endpoint.asked) == 1
    now = 81.0
    await provider.token()
    assert len(endpoint.asked) == 2


async def test_a_refused_token_is_named(opened, address, endpoint):
    """Where the endpoint gives no token the error says so, and which settings are meant."""
    options = endpoint.options | {"sasl_oauthbearer_client_secret": "wrong"}
    with pytest.raises(LogError, match=r"RUNFOLD_KAFKA_SASL_OAUTHBEARER_\*.*401"):
        await opened.source(address("SASL_PLAINTEXT"), **options)


async def test_a_wrong_password_is_named(opened, address):
    """A refused login names the settings, and is no matter of waiting."""
    options = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "alice", "sasl_password": "wrong"}
    with pytest.raises(LogError, match=r"RUNFOLD_KAFKA_SASL_\*.*refuses.*Authentication"):
        await opened.source(address("SASL_PLAINTEXT"), **options)


async def test_who_may_not_is_told(opened, address):
    """A user without rights on the topic is told that Kafka refuses."""
    options = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "bob", "sasl_password": "secret"}
    with pytest.raises(LogError, match=r"refuses what was asked of secured.*TopicAuthorization"):
        await opened.source(address("SASL_PLAINTEXT"), **options)


async def test_a_certificate_of_somebody_else_is_refused(opened, address, keys):
    """Without our authority the broker's certificate is not believed."""
    options = ALICE | {"security_protocol": "SASL_SSL"}
    with pytest.raises(LogError, match="CERTIFICATE_VERIFY_FAILED"):
        await opened.source(address("SASL_SSL"), **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"security_protocol": "SASL_PLAINTEXT"}, "RUNFOLD_KAFKA_SASL_USERNAME"),
        ({"security_protocol": "SSL", "ssl_cafile": "/not/there"}, "RUNFOLD_KAFKA_SSL_CAFILE"),
        ({"security_protocol": "SSL", "ssl_certfile": "/not/there"}, "RUNFOLD_KAFKA_SSL_CERTFILE"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"},
            "RUNFOLD_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
        ),
    ],
)
async def test_what_is_left_out_is_named(opened, options, named):
    """Each setting that is wanted and missing, or names a file that cannot be read, is named."""
    with pytest.raises(LogError, match=named):
        await opened.source(Address("127.0.0.1:1", TOPIC), **options)


def test_settings_are_named_as_kafkas_tools_name_them():
    """`sasl.mechanism` is RUNFOLD_KAFKA_SASL_MECHANISM, and so on; secrets are masked."""
    settings = load_settings(
        environment={
            "RUNFOLD_LOG": "kafka://one,two:9093/run-events",
            "RUNFOLD_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
            "RUNFOLD_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "RUNFOLD_KAFKA_SASL_PASSWORD": "secret",
        }
    )
    shown = {setting.variable: value for setting, value, _ in effective(settings)}
    assert settings.kafka.security_protocol == "SASL_SSL"
    assert (settings.kafka.sasl_password, shown["RUNFOLD_KAFKA_SASL_PASSWORD"]) == ("secret", "********")
