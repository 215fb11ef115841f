"""A namespace of its own with endpoints in it, and a process that asks them without pause."""

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from api.cluster.kubernetes import KubernetesApi
from api.cluster.kubernetes_rules import KubernetesRules, PodRules, ServerRules
from api.cluster.kubernetes_servers import KubernetesServers
from api.cluster.protocol import DeploymentRequest, SeenDeployment
from tests.cluster.rig import PATIENCE, Namespace, run, until

NAMESPACE = "bearloop-servers"
RELEASE, OWNER, SECRET, ACCOUNT = "forest", "forest-owner", "inference-s3", "forest-jobs"
KEYS = {"AWS_ACCESS_KEY_ID": "inference", "AWS_SECRET_ACCESS_KEY": "reads-bundles-only"}
"""Of the identity that the servers have."""
GRACE = timedelta(seconds=20)
LEFT_BEHIND = "all,secrets,poddisruptionbudgets,horizontalpodautoscalers,endpointslices"

SERVER = """
import http.server, json, os, signal, socketserver, sys, threading, time
bundle = os.environ["BEARLOOP_BUNDLE"]
if bundle == "refused":
    print("refused to serve: the golden outputs differ")
    sys.exit(42)
if bundle == "broken":
    sys.exit("the disk is on fire")
if bundle == "greedy":
    held = [bytearray(os.urandom(2**20)) for _ in range(4096)]
leaving = threading.Event()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 503 if self.path == "/readyz" and leaving.is_set() else 200
        until = time.thread_time() + float(self.headers.get("X-Burn", 0))
        while time.thread_time() < until:
            pass
        tokens = os.environ.get("BEARLOOP_ENDPOINT_TOKENS")
        told = {
            "bundle": bundle,
            "tokens": tokens and open(tokens).read().split(),
            "threads": os.environ["BEARLOOP_THREADS"],
        }
        body = json.dumps(told).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = False
    request_queue_size = 128
port = int(sys.argv[sys.argv.index("--port") + 1])
server = Server(("0.0.0.0", port), Answer)
def leave():
    leaving.set()
    time.sleep(float(os.environ["BEARLOOP_LINGER"]))
    server.shutdown()
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
server.serve_forever(poll_interval=0.05)
server.server_close()
"""
"""Stands in for `python -m inference`: the same flags, environment, probes and drain."""

CALLER = """
import base64, collections, json, sys, threading, time, httpx
how = json.loads(sys.argv[1])
picture = base64.b64decode(how["picture"])
stop, seen, failed = threading.Event(), collections.Counter(), []
def ask():
    limits = httpx.Limits(max_keepalive_connections=1 if how["kept"] else 0)
    with httpx.Client(timeout=120, trust_env=False, limits=limits) as client:
        while not stop.is_set():
            try:
                got = client.post(how["url"], content=picture, headers=how["headers"])
                assert got.status_code == 200, got.text
                seen[got.json()["bundle"]] += 1
            except Exception as error:
                failed.append(f"{time.strftime('%X')} {error!r}")
threads = [threading.Thread(target=ask) for _ in range(how["count"])]
[thread.start() for thread in threads]
sys.stdin.read()
stop.set()
[thread.join() for thread in threads]
print(json.dumps({"seen": seen, "failed": failed}))
"""
"""Asks until its input ends, then prints how often which bundle answered, and what failed when."""


@dataclass(frozen=True)
class Heard:
    """What a caller got."""

    seen: dict[str, int]
    failed: list[str]


class Caller:
    """A second process that asks an address."""

    def __init__(self, how: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CALLER, json.dumps(how)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> Heard:
        """Let it finish what it asks, and return what it heard."""
        said, _ = self._process.communicate(timeout=PATIENCE)
        return Heard(**json.loads(said))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def calling(
    url: str,
    picture: bytes = b"",
    *,
    count: int = 3,
    kept: bool = False,
    headers: dict[str, str] | None = None,
) -> Iterator[Caller]:
    """POST the picture from now on, so many at once, on connections that are kept or not.

    The nodes hear of a new Service up to a second after its first pod is ready: not before that.
    """
    until(lambda: _takes_connections(url), f"{url} takes connections")
    how = {"url": url, "count": count, "kept": kept, "headers": headers or {}}
    caller = Caller({**how, "picture": base64.b64encode(picture).decode()})
    try:
        yield caller
    finally:
        caller.kill()


def _takes_connections(url: str) -> bool:
    asked = httpx.URL(url)
    with suppress(OSError), socket.create_connection((asked.host, asked.port or 80), timeout=5):
        return True
    return False


@contextmanager
def opened_namespace(name: str = NAMESPACE) -> Iterator[Namespace]:
    """Make the namespace, which takes nothing but restricted pods, and what a release has in it."""
    run("kubectl", "delete", "namespace", name, "--ignore-not-found", "--timeout=120s")
    run("kubectl", "create", "namespace", name)
    run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    namespace = Namespace(name)
    namespace.kubectl("create", "configmap", OWNER)
    namespace.kubectl("create", "serviceaccount", ACCOUNT)
    keys = [f"--from-literal={name}={value}" for name, value in KEYS.items()]
    namespace.kubectl("create", "secret", "generic", SECRET, *keys)
    try:
        yield namespace
    finally:
        run("kubectl", "delete", "namespace", name, "--wait=false")


def rules(namespace: str, of: str, /, **changes: Any) -> KubernetesRules:
    """Return the rules of the release, with some of the servers' changed."""
    job = PodRules(image=of, secrets=(), cpu=1, memory="1Gi")
    small: dict[str, Any] = {"image": of, "secrets": [SECRET], "cpu": 0.2, "memory": "128Mi"}
    return KubernetesRules(
        namespace=namespace,
        release=RELEASE,
        owner=OWNER,
        service_account=ACCOUNT,
        grace=GRACE,
        importer=job,
        trainer=job,
        inference=ServerRules.model_validate({**small, "scratch": "64Mi", **changes}),
    )


@dataclass(frozen=True)
class Place:
    """Endpoints in the namespace."""

    namespace: Namespace
    api: KubernetesApi
    image: str

    def servers(self, command: tuple[str, ...] = (), **changes: Any) -> KubernetesServers:
        """Return what deploys; `changes` are the operator's of the servers."""
        command = command or ("python", "-c", SERVER)
        return KubernetesServers(
            self.api, rules(self.namespace.name, self.image, **changes), command=command
        )

    def ask(self, seen: SeenDeployment, path: str = "/classify") -> dict[str, Any]:
        """Ask as a client does, who knows that the nodes hear of a new Service a moment later."""
        transport = httpx.HTTPTransport(retries=3)
        with httpx.Client(transport=transport, timeout=30, trust_env=False) as client:
            told: dict[str, Any] = client.get(self.outside(seen) + path).raise_for_status().json()
        return told

    def outside(self, seen: SeenDeployment) -> str:
        assert seen.url is not None
        return self.namespace.outside(seen.url)

    def pods(self, name: str) -> list[dict[str, Any]]:
        return self.namespace.pods(f"bearloop.io/endpoint={name}")

    def left_of(self, name: str) -> str:
        """List all that there is of an endpoint, of every kind."""
        return self.namespace.kubectl(
            "get", LEFT_BEHIND, "-l", f"bearloop.io/endpoint={name}", "-o", "name"
        )


def request(name: str, digest: str = "first", **changes: Any) -> DeploymentRequest:
    """Ask for servers of a bundle."""
    environment = {"BEARLOOP_BUNDLE": digest}
    return DeploymentRequest(name=name, digest=digest, environment=environment, **changes)


def bring_up(servers: KubernetesServers, asked: DeploymentRequest) -> SeenDeployment:
    """Deploy again and again, as the worker does, until it is ready."""

    def ready() -> bool:
        servers.deploy(asked)
        seen = servers.look(asked.name)
        return seen is not None and seen.ready and seen.digest == asked.digest

    until(ready, f"{asked.name} serves {asked.digest}")
    return look(servers, asked.name)


def look(servers: KubernetesServers, name: str) -> SeenDeployment:
    """Look at a deployment that is there."""
    seen = servers.look(name)
    assert seen is not None
    return seen


def await_reason(
    servers: KubernetesServers, name: str, holds: Callable[[SeenDeployment], bool]
) -> SeenDeployment:
    """Wait until what is said of the deployment is as expected."""
    last: list[SeenDeployment] = []

    def said() -> bool:
        last[:] = [look(servers, name)]
        return holds(last[0])

    try:
        until(said, "its reason", limit=120)
    except AssertionError as error:
        raise AssertionError(f"not said in time; at last {last}") from error
    return last[0]
