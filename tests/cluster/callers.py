"""A second process that asks addresses without pause, and tells what it was answered."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.rig import PATIENCE

ASKS = """
import base64, collections, itertools, json, random, sys, threading, time, httpx
asked = json.loads(sys.argv[1])
stop, answered, failed = threading.Event(), collections.Counter(), []
numbers = itertools.count(1)
def ask(how, kept):
    content = base64.b64decode(how["content"])
    limits = httpx.Limits(max_keepalive_connections=1 if kept else 0)
    with httpx.Client(timeout=60, trust_env=False, limits=limits) as client:
        # A connection that is idle for a moment is the one that a server might close too early.
        while not stop.wait(random.uniform(0, 0.1)):
            said = content.replace(b"NUMBER", b"%d" % next(numbers))
            try:
                got = client.request(
                    how["method"], how["url"], content=said, headers=how["headers"]
                )
                assert got.is_success, f"{got.status_code} {got.text[:200]}"
                answered[how["name"]] += 1
            except Exception as error:
                failed.append(f"{time.strftime('%X')} {how['name']}: {error!r}")
threads = [threading.Thread(target=ask, args=(how, kept)) for how in asked for kept in (0, 1)]
[thread.start() for thread in threads]
print("asks", flush=True)
sys.stdin.read()
stop.set()
[thread.join() for thread in threads]
print(json.dumps({"answered": answered, "failed": failed}))
"""
"""Each request by two threads, one on kept connections, one on new ones, until its input ends."""


@dataclass(frozen=True)
class Asked:
    """One kind of request; `NUMBER` in its content is another one each time."""

    name: str
    method: str
    url: str
    token: str
    content: bytes = b""
    content_type: str = "application/json"

    def as_json(self) -> dict[str, Any]:
        """Say it as the other process reads it."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": self.content_type}
        content = base64.b64encode(self.content).decode()
        how = {"name": self.name, "method": self.method, "url": self.url}
        return {**how, "headers": headers, "content": content}


@dataclass
class Told:
    """What was answered to whom; complete once the block has ended."""

    answered: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@contextmanager
def asking(requests: Sequence[Asked]) -> Iterator[Told]:
    """Ask from a second process while the block runs."""
    asked = json.dumps([request.as_json() for request in requests])
    process = subprocess.Popen(
        [sys.executable, "-c", ASKS, asked],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asks\n"
    told = Told()
    try:
        yield told
        said, _ = process.communicate(timeout=PATIENCE)
        heard = json.loads(said)
        told.answered, told.failed = heard["answered"], heard["failed"]
    finally:
        process.kill()
        process.communicate()
