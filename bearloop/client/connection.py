"""HTTP to the API: problems as exceptions, pages as iterators, POSTs sent again safely."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

ATTEMPTS = 4
"""How often a request is sent while the API does not answer."""
AGAIN = {502, 503, 504}
CHUNK = 1 << 20
"""Bytes of an upload that are in memory at a time."""
Counted = Callable[[int, int], None]
"""Told how much of how much is done."""


class ApiProblem(Exception):  # noqa: N818 - the name of RFC 9457
    """The API refused: `code` is stable; `field`, `value` and `way_out` as the API gave them."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.code = str(body.get("code", status))
        self.detail = str(body.get("detail", ""))
        self.field: str | None = body.get("field")
        self.value: Any = body.get("value")
        self.way_out: str | None = body.get("way_out")
        self.errors: list[dict[str, Any]] = body.get("errors") or []
        """One for each wrong field, where several are told."""
        super().__init__(self._text())

    def _text(self) -> str:
        hint = f" Way out: {self.way_out}." if self.way_out else ""
        more = f" Wrong fields: {len(self.errors)}." if len(self.errors) > 1 else ""
        return f"{self.detail} ({self.code}).{hint}{more}"


class UnreachableError(Exception):
    """The API did not answer, or what answered is no API of bearloop."""


def place(below: str, *names: object) -> str:
    """Make a path of names that may hold any character."""
    return "/".join([below, *(quote(str(name), safe="") for name in names)])


def checked(answer: httpx.Response) -> httpx.Response:
    """Return a good answer; raise ApiProblem for any other."""
    if answer.is_success:
        return answer
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        body = {"detail": f"{answer.url} answers {answer.status_code}: {answer.text[:200]}"}
    raise ApiProblem(answer.status_code, body)


class Connection:
    """One API and one token."""

    def __init__(self, url: str, token: str, *, http: httpx.Client | None = None) -> None:
        self.url = url.rstrip("/")
        try:
            self._http = http or httpx.Client(base_url=self.url, timeout=60)
        except httpx.InvalidURL as error:
            raise UnreachableError(f"{self.url} is no http address: {error}") from error
        self._http.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **query: Any) -> Any:
        """GET a JSON answer."""
        return _json(self._send("GET", path, params=_given(query)))

    def get_bytes(self, path: str, **query: Any) -> bytes:
        """GET an answer that is no JSON."""
        return self._send("GET", path, params=_given(query)).content

    def post(self, path: str, body: Any = None) -> Any:
        """POST once to effect, however often it has to be sent: each call has its own key."""
        headers = {"Idempotency-Key": uuid4().hex}
        answer = self._send("POST", path, json=body if body is not None else {}, headers=headers)
        return _json(answer) if answer.content else None

    def upload(self, path: str, file: Path, *, show: Counted | None = None) -> Any:
        """POST a file, read as it is sent; the API names it by its content, so twice is once."""
        size = file.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        sent = self._send(
            "POST", path, stream=lambda: _chunks(file, size, show or _unseen), headers=headers
        )
        return _json(sent)

    def put(self, path: str, body: Any) -> Any:
        """PUT a JSON body."""
        return _json(self._send("PUT", path, json=body))

    def patch(self, path: str, body: Any) -> Any:
        """PATCH with a JSON body."""
        return _json(self._send("PATCH", path, json=body))

    def delete(self, path: str) -> None:
        """DELETE."""
        self._send("DELETE", path)

    def items(self, path: str, **query: Any) -> Iterator[Any]:
        """Walk all pages of a list."""
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **query)
            yield from page["items"]
            cursor = page.get("next")
            if cursor is None:
                return

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        stream: Callable[[], Iterator[bytes]] | None = None,
        **request: Any,
    ) -> httpx.Response:
        for attempt in range(1, ATTEMPTS + 1):
            if stream is not None:
                request["content"] = stream()
            try:
                answer = self._http.request(method, path, **request)
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise UnreachableError(f"{self.url} is no http address: {error}") from error
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise UnreachableError(f"{self.url} does not answer: {error}") from error
            else:
                if method == "DELETE" and attempt > 1 and answer.status_code == 404:
                    return answer  # an attempt before did it, and its answer was lost
                if answer.status_code not in AGAIN or attempt == ATTEMPTS:
                    return checked(answer)
            time.sleep(0.2 * 2**attempt)  # deadline: ATTEMPTS
        raise AssertionError("unreachable")


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise UnreachableError(f"{answer.url} answers, but not as bearloop's API does") from error


def _chunks(file: Path, size: int, show: Counted) -> Iterator[bytes]:
    sent = 0
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            yield chunk
            sent += len(chunk)
            show(sent, size)


def _unseen(done: int, of: int) -> None:
    """Show nothing."""


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
