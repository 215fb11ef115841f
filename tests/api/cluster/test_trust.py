"""The variables of `caBundle` are those by which our clients trust a server with a CA of ours."""

import datetime
import ipaddress
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.cluster.pod_objects import CA_VARIABLES

ASKING = {
    "store": "from bearloop.store import open_store; print(open_store('s3://bears').exists('a'))",
    "httpx": "import httpx, os; print(httpx.get(os.environ['URL']).status_code)",
    "mlflow": "import requests, os; print(requests.get(os.environ['URL']).status_code)",
    "fetch": "import aiohttp, asyncio, os\n"
    "async def ask():\n"
    "    async with aiohttp.ClientSession(trust_env=False) as session:\n"
    "        print((await session.get(os.environ['URL'])).status)\n"
    "asyncio.run(ask())",
}
"""As the programs ask: the store by boto3, the API of MLflow's pages, MLflow's client, imports."""


class NothingThere(BaseHTTPRequestHandler):
    """An S3 server without objects, as far as a HEAD is concerned."""

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine that is its own CA."""
    folder = tmp_path_factory.mktemp("ca")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a company")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    (folder / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return folder / "ca.crt"


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, bundle.with_name("key"))
    with HTTPServer(("127.0.0.1", 0), NothingThere) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("client", ASKING)
def test_a_bundle_is_trusted_by_every_client(client: str, server: str, bundle: Path) -> None:
    trusting = ask(client, server, dict.fromkeys(CA_VARIABLES, str(bundle)))
    assert trusting.stdout.strip() in {"404", "False"}, trusting.stderr
    alone = ask(client, server, {})
    assert alone.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in alone.stderr


def ask(client: str, server: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Ask in a process of its own: certificates are read once, or at the import."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    told = {"URL": server, "AWS_ENDPOINT_URL": server, "AWS_DEFAULT_REGION": "us-east-1", **keys}
    own = {name: value for name, value in os.environ.items() if name not in CA_VARIABLES}
    return subprocess.run(
        [sys.executable, "-c", ASKING[client]],
        env={**own, **told, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
