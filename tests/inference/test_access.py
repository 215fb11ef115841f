"""Who may ask, and which addresses are fetched for them."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from bearloop.contract.environment import ENDPOINT_TOKENS
from inference.access import TokenFileError, Tokens
from inference.errors import UnauthorisedError
from inference.serving import FETCHES
from tests.inference.bundles import GREEN, picture
from tests.inference.conftest import TOKEN, Start


class _Host(BaseHTTPRequestHandler):
    """A host with one picture, and with one that comes only when the test says so."""

    go = threading.Event()
    asked = threading.Semaphore(0)
    """Counts the requests for the late picture."""

    def do_GET(self) -> None:
        if self.path == "/late/green.png":
            self.asked.release()
            self.go.wait(30)
            self.path = "/green.png"
        found = self.path == "/green.png"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(picture(GREEN) if found else b"")

    def log_message(self, *arguments: object) -> None:
        del arguments


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def test_a_private_endpoint_answers_the_holders_of_its_tokens_only(private: httpx.Client) -> None:
    assert private.post("/classify", content=picture()).status_code == 200
    for wrong in ("", "Bearer", "Bearer another", f"Basic {TOKEN}", f"Bearer {hashed(TOKEN)}"):
        answer = private.post("/classify", content=picture(), headers={"Authorization": wrong})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_that_tells_of_the_model_asks_for_the_token(private: httpx.Client) -> None:
    nobody = {"Authorization": "Bearer nobody"}
    for method, path in (
        ("GET", "/classify-url?url=http://example.org/a.png"),
        ("GET", "/v2/models/colours"),
        ("POST", "/v2/models/colours/infer"),
    ):
        assert private.request(method, path, headers=nobody).status_code == 401, path
    for path in ("/healthz", "/readyz", "/metrics", "/v2/health/ready", "/v2/models/colours/ready"):
        assert private.get(path, headers=nobody).status_code == 200, path


def test_a_revoked_token_ends_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{hashed('old')}\n{hashed('stays')}\n", encoding="ascii")
    tokens = Tokens(file)
    tokens.check("Bearer old")
    replacement = tmp_path / "next"
    replacement.write_text(hashed("stays"), encoding="ascii")
    replacement.replace(file)
    tokens.check("bearer stays")
    with pytest.raises(UnauthorisedError):
        tokens.check("Bearer old")


def test_a_spoilt_token_file_lets_nobody_new_in_and_nobody_out(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(hashed("valid"), encoding="ascii")
    tokens = Tokens(file)
    file.write_text("valid\n", encoding="ascii")
    tokens.check("Bearer valid")
    with pytest.raises(TokenFileError, match="never the token"):
        Tokens(file)


def test_a_server_without_its_token_file_does_not_start(start: Start, tmp_path: Path) -> None:
    server = start({ENDPOINT_TOKENS: str(tmp_path / "missing")})
    assert "missing" in server.output()
    assert server.process.returncode == 42


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.png",
        "http://localhost/a.png",
    ],
)
def test_a_private_address_is_not_fetched(private: httpx.Client, url: str) -> None:
    answer = private.get("/classify-url", params={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "private_address")


def test_other_schemes_are_not_fetched(private: httpx.Client) -> None:
    answer = private.get("/classify-url", params={"url": "file:///etc/passwd"})
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong_scheme")
    assert private.get("/classify-url").json()["code"] == "malformed"


def test_a_public_endpoint_fetches_nothing_unless_told_to(
    public: httpx.Client, start: Start, host: str
) -> None:
    asked = {"url": f"{host}/green.png"}
    answer = public.get("/classify-url", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (403, "classify_url_off")
    told = start({"BEARLOOP_CLASSIFY_URL": "true", "BEARLOOP_ALLOW_PRIVATE_ADDRESSES": "true"})
    client = told.wait_until_ready().client
    fetched = client.get("/classify-url", params=asked)
    assert fetched.status_code == 200
    assert fetched.json() == public.post("/classify", content=picture(GREEN)).json()
    missing = client.get("/classify-url", params={"url": f"{host}/red.png"})
    assert (missing.status_code, missing.json()["code"]) == (422, "http_404")


def test_more_fetches_than_fit_in_memory_are_sent_away(start: Start, host: str) -> None:
    open_to_all = {"BEARLOOP_CLASSIFY_URL": "true", "BEARLOOP_ALLOW_PRIVATE_ADDRESSES": "true"}
    url = f"{start(open_to_all).wait_until_ready().url}/classify-url"
    asked = {"url": f"{host}/late/green.png"}
    with ThreadPoolExecutor(FETCHES) as callers:
        waiting = [callers.submit(httpx.get, url, params=asked, timeout=60) for _ in range(FETCHES)]
        missing = {"url": f"{host}/red.png"}
        # All are under way before anything else is asked: that would take one's place.
        assert all(_Host.asked.acquire(timeout=30) for _ in range(FETCHES))
        answer = httpx.get(url, params=missing)
        assert answer.status_code == 503
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("busy", "1")
        _Host.go.set()
        assert [call.result().status_code for call in waiting] == [200] * FETCHES
    assert httpx.get(url, params=missing).status_code == 422
