"""As much of a Kubernetes API server as a chart's `lookup` asks: what there is, as JSON."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

KINDS = {"configmaps": "ConfigMap", "secrets": "Secret", "serviceaccounts": "ServiceAccount"}
Thing = Mapping[str, Any]


@contextmanager
def api_server(*things: Thing) -> Iterator[str]:
    """Serve a cluster whose one namespace holds these things; yield its address."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answer(self.path.partition("?")[0], things)
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *words: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def answer(path: str, things: tuple[Thing, ...]) -> tuple[int, Thing]:
    """Answer one GET: the kinds that are known, a list of one kind, or one thing."""
    if path == "/api/v1":
        verbs = {"singularName": "", "namespaced": True, "verbs": ["get", "list"]}
        kinds = [{"name": name, "kind": kind, **verbs} for name, kind in KINDS.items()]
        return 200, {"kind": "APIResourceList", "groupVersion": "v1", "resources": kinds}
    *_, last_but_one, last = path.split("/")
    if last in KINDS:
        items = [thing for thing in things if thing["kind"] == KINDS[last]]
        return 200, {"kind": f"{KINDS[last]}List", "apiVersion": "v1", "items": items}
    for thing in things:
        if (thing["kind"], thing["metadata"]["name"]) == (KINDS.get(last_but_one), last):
            return 200, thing
    return 404, {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404}
