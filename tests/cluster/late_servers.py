"""A release whose database and store are the operator's own, and come up later than it does."""

import json
import re
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
from botocore.client import Config

from tests.cluster.rig import ROOT, Namespace, Release, run, until

DATABASE, STORE = "database", "store"
"""Services that lead nowhere until the server is started, and the pods of these servers."""
PORTS = {DATABASE: 5432, STORE: 9000}
BUCKET = "pictures"
KEYS = {"AWS_ACCESS_KEY_ID": "late", "AWS_SECRET_ACCESS_KEY": "late-secret"}
PASSWORD = "right"
VALUES: dict[str, Any] = {
    "database": {"existingSecret": DATABASE},
    "store": {
        "url": f"s3://{BUCKET}/bearloop",
        "endpoint": f"http://{STORE}:{PORTS[STORE]}",
        "existingSecrets": dict.fromkeys(("api", "jobs", "inference"), STORE),
    },
    "api": {"replicas": 1, "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}},
    "worker": {"resources": {"requests": {"cpu": "50m", "memory": "256Mi"}}},
    "mlflow": {"resources": {"requests": {"cpu": "50m", "memory": "512Mi"}}},
    "migrations": {"resources": {"requests": {"cpu": "20m", "memory": "128Mi"}}},
}


@dataclass(frozen=True)
class Late:
    """The release, and what its operator does."""

    namespace: Namespace
    name: str
    like: Release
    """Whose images, and whose database and store, those of this release are like."""

    def prepare(self) -> None:
        """Make the namespace, both addresses and the Secrets; one password is wrong."""
        name = self.namespace.name
        run("kubectl", "delete", "namespace", name, "--ignore-not-found", "--timeout=120s")
        run("kubectl", "create", "namespace", name)
        run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        for server, port in PORTS.items():
            spec = {"selector": {"server": server}, "ports": [{"port": port}]}
            metadata = {"name": server}
            self._apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        self._apply(secret(STORE, KEYS))
        self.set_password("wrong")

    def set_password(self, password: str) -> None:
        """Write the Secret of the database, with this password of the program's role."""
        urls = {
            "owner-url": url("bearloop_owner", PASSWORD, "bearloop"),
            "program-url": url("bearloop", password, "bearloop"),
            "mlflow-url": url("mlflow", PASSWORD, "mlflow"),
        }
        self._apply(secret(DATABASE, urls))
        # A kubelet looks at a Secret once a minute, and at once when the pod changes.
        self.namespace.kubectl("annotate", "pods", "--all", "--overwrite", f"seen={password}")

    def install(self) -> None:
        """Install, and wait for nothing."""
        words = ("helm", "get", "values", self.like.name, "--all", "--output", "json")
        given = json.loads(run(*words, "--namespace", self.like.namespace.name))
        values = {"image": given["image"], **VALUES}
        place = ("--namespace", self.namespace.name, "--values", "-")
        run("helm", "install", self.name, "charts/bearloop", *place, content=json.dumps(values))

    def start(self, server: str, kind: str, **variables: str) -> None:
        """Start the server: a pod like the one in the release's StatefulSet, on no volume."""
        found = self.like.namespace.get("statefulset", f"{self.like.name}-bearloop-{kind}")
        spec = found["spec"]["template"]["spec"]
        spec.pop("serviceAccountName", None)
        spec.pop("serviceAccount", None)
        (container,) = spec["containers"]
        kept = [entry for entry in container["env"] if "value" in entry]
        told = [{"name": name, "value": value} for name, value in variables.items()]
        container["env"] = [*kept, *told]
        spec["volumes"] = [*spec["volumes"], {"name": "data", "emptyDir": {}}]
        metadata = {"name": server, "labels": {"server": server}}
        self._apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        ready = ("--for=condition=Ready", f"pod/{server}", "--timeout=120s")
        self.namespace.kubectl("wait", *ready)

    def make_databases(self) -> None:
        """Run what the README tells the database's administrator to run."""
        readme = (ROOT / "README.md").read_text()
        (block,) = re.findall(r"^```sql\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
        words = ("exec", "-i", DATABASE, "--", "psql", "-U", "postgres", "-v", "ON_ERROR_STOP=1")
        self.namespace.kubectl(*words, content=block.replace("…", PASSWORD))

    def make_bucket(self) -> None:
        """Make the bucket, as the store's administrator does."""
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{self.namespace.address(STORE)}",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=BUCKET)
        client.close()

    def await_word(self, component: str, container: str, said: str) -> None:
        """Wait until the container of the component's pod has said that."""
        selector = f"app.kubernetes.io/component={component}"

        def is_said() -> bool:
            words = ("logs", "-l", selector, "-c", container, "--tail=-1", "--ignore-errors")
            return said in self.namespace.kubectl(*words)

        until(lambda: bool(self.namespace.pods(selector)), f"a pod of {component}")
        until(is_said, f"{component} says: {said}")

    def readiness(self) -> dict[str, Any]:
        """Ask the API's pod whether it is ready: its Service leads there only when it is."""
        (pod,) = self.namespace.pods("app.kubernetes.io/component=api")
        answer = httpx.get(f"http://{pod['status']['podIP']}:8000/readyz", timeout=10)
        said: dict[str, Any] = answer.json()
        return {**said, "code": answer.status_code}

    def restarts(self) -> dict[str, int]:
        """Count how often containers ended and were started again, where they were."""
        statuses = [
            (pod["metadata"]["name"], status)
            for pod in self.namespace.get("pods")["items"]
            for kind in ("initContainerStatuses", "containerStatuses")
            for status in pod["status"].get(kind, [])
        ]
        counts = {f"{pod}/{s['name']}": int(s["restartCount"]) for pod, s in statuses}
        return {name: count for name, count in counts.items() if count}

    def failed(self) -> list[str]:
        """List the pods that ended badly: the tries of Jobs."""
        words = ("--field-selector=status.phase=Failed",)
        return [pod["metadata"]["name"] for pod in self.namespace.get("pods", *words)["items"]]

    def _apply(self, thing: dict[str, Any]) -> None:
        self.namespace.kubectl("apply", "-f", "-", content=json.dumps(thing))


def secret(name: str, content: dict[str, str]) -> dict[str, Any]:
    """Describe a Secret."""
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": content}


def url(role: str, password: str, database: str) -> str:
    """Return the address of a database for a role."""
    return f"postgresql+psycopg://{role}:{password}@{DATABASE}/{database}"
