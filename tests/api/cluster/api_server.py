"""An API server of Kubernetes with verbs: keeps objects, refuses on demand, breaks its watches."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Thing = dict[str, Any]
NAMESPACE = "woods"
BREAK = "break"
"""Of a watch: the connection ends in the middle."""


class ApiServer:
    """The objects of one namespace; what is asked for is written down."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, dict[str, Thing]] = {}
        """Plural -> name -> object."""
        self.version = 1
        """Of the newest list."""
        self.lists: list[str] = []
        """Plural of each list that was read."""
        self.watches: list[str] = []
        """From which version each watch began."""
        self.ending = Event()
        self._plays: list[list[Thing | int | str]] = []
        self._refusal: tuple[str, int, str] | None = None
        self._lock = Lock()

    # --- verbs of the tests ---

    def put(self, plural: str, thing: Thing) -> None:
        """Let an object be there."""
        self.objects.setdefault(plural, {})[thing["metadata"]["name"]] = thing

    def refuse(self, plural: str, status: int, message: str) -> None:
        """Take no change of such objects."""
        self._refusal = (plural, status, message)

    def relent(self) -> None:
        """Take changes again."""
        self._refusal = None

    def play(self, *parts: Thing | int | str) -> None:
        """Let the next watch say this: an event, or BREAK; or answer with a status instead.

        One that has said all stays open, and so does every watch after those that were told.
        """
        self._plays.append(list(parts))

    # --- what is asked ---

    def listed(self, plural: str, selector: str) -> Thing:
        self.lists.append(plural)
        wanted = [part.partition("=") for part in selector.split(",") if part]
        items = [
            thing
            for thing in self.objects.get(plural, {}).values()
            if all(_has(thing, name, sign and value) for name, sign, value in wanted)
        ]
        return {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    def change(self, plural: str, name: str, thing: Thing | None) -> tuple[int, Thing]:
        if self._refusal is not None and self._refusal[0] == plural:
            _, status, message = self._refusal
            return status, {"kind": "Status", "code": status, "message": message}
        kept = self.objects.setdefault(plural, {})
        if thing is None:
            return (200, kept.pop(name)) if name in kept else (404, {"message": "not found"})
        kept[name] = thing if "kind" in thing else _merged(kept[name], thing)
        return 200, kept[name]

    def next_play(self, since: str) -> list[Thing | int | str]:
        with self._lock:
            self.watches.append(since)
            # What is listed after it is newer.
            self.version += 10
            return self._plays.pop(0) if self._plays else []


def event(kind: str, **labels: str) -> Thing:
    """Return an event of a watch, about an object with these labels."""
    named = {f"bearloop.io/{name}": value for name, value in labels.items()}
    return {"type": kind, "object": {"metadata": {"resourceVersion": "5", "labels": named}}}


@contextmanager
def api_server(folder: Path) -> Iterator[tuple[ApiServer, str]]:
    """Run one; gives it, and the path of a kubeconfig that names it."""
    api = ApiServer()

    class Answers(_Answers):
        server_state = api

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(_kubeconfig(api.url)))
    try:
        yield api, str(kubeconfig)
    finally:
        api.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: ApiServer

    def do_GET(self) -> None:
        plural, name, query = self._asked()
        if query.get("watch"):
            self._watch(self.server_state.next_play(query["resourceVersion"]))
        elif name:
            found = self.server_state.objects.get(plural, {}).get(name)
            self._answer(200 if found else 404, found or {"message": "not found"})
        else:
            self._answer(200, self.server_state.listed(plural, query.get("labelSelector", "")))

    def do_POST(self) -> None:
        plural, _, _ = self._asked()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["metadata"]["name"]
        if name in self.server_state.objects.get(plural, {}):
            self._answer(409, {"message": "already exists"})
        else:
            self._answer(*self.server_state.change(plural, name, body))

    def do_PATCH(self) -> None:
        plural, name, _ = self._asked()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(*self.server_state.change(plural, name, body))

    def do_DELETE(self) -> None:
        plural, name, _ = self._asked()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(*self.server_state.change(plural, name, None))

    def _asked(self) -> tuple[str, str, dict[str, str]]:
        parts = urlsplit(self.path)
        plural, _, name = parts.path.partition(f"/namespaces/{NAMESPACE}/")[2].partition("/")
        return plural, name, dict(parse_qsl(parts.query))

    def _answer(self, status: int, body: Thing) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _watch(self, play: list[Thing | int | str]) -> None:
        if play and isinstance(play[0], int):
            self._answer(play[0], {"kind": "Status", "code": play[0], "message": "too old"})
            return
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in play:
            if part == BREAK:
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            line = json.dumps(part).encode() + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.server_state.ending.wait()
        with suppress(OSError):
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return None


def _has(thing: Thing, label: str, value: str) -> bool:
    labels = thing["metadata"].get("labels", {})
    return label in labels and value in ("", labels[label])


def _merged(there: Thing, changes: Thing) -> Thing:
    """Merge a patch (RFC 7386); what is applied names its kind, and is taken whole."""
    merged = dict(there)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(there.get(name), dict)
        merged[name] = _merged(there[name], value) if both else value
    return merged


def _kubeconfig(url: str) -> Thing:
    context = {"cluster": "here", "user": "me", "namespace": NAMESPACE}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": context}],
    }
