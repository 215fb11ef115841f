"""The one guarded fetcher of addresses that users name: public hosts only, everything capped."""

import asyncio
import itertools
import random
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from socket import AddressFamily
from types import TracebackType
from typing import Final, NamedTuple, Self
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from bearloop.addresses import IpAddress, is_public, literal_address

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
RETRIED: Final = frozenset({429, 500, 502, 503, 504})
CHUNK: Final = 64 * 1024
MAX_URL: Final = 8192
"""Characters; longer ones are mostly `data:` pictures."""
AGENT: Final = "bearloop"
# Left exactly as written: requoting a signed address would break its signature.
PLAIN: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%|{}^]+")
CONTROL: Final = re.compile(r"[\x00-\x20\x7f\\]")


class FetchLimits(NamedTuple):
    """What one fetch may cost."""

    max_bytes: int = 32 * 1024 * 1024
    timeout: float = 20.0
    """Seconds for one try, redirects included."""
    tries: int = 3
    """Of 429, 5xx and broken connections; timeouts and refusals are not tried again."""
    max_redirects: int = 5
    per_host: int = 8
    """Requests in flight to one host."""
    backoff: float = 0.5
    """Seconds before the second try; doubled for each further one, with jitter."""
    max_retry_after: float = 10.0
    """Seconds that a host's Retry-After is obeyed for; a longer one is cut."""


class Fetched(NamedTuple):
    """What a host answered with status 200."""

    data: bytes
    content_type: str | None
    url: str
    """The address after the redirects."""


class FetchError(Exception):
    """An address was not fetched; `code` is stable (`private_address`, `http_404`, …)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Fetcher:
    """An async context manager around one pool of connections.

    Each host name is resolved once per connection, every answer is checked, and the connection
    goes to the address that was checked; every redirect hop passes the same gate.
    """

    def __init__(
        self,
        limits: FetchLimits | None = None,
        *,
        allow_private_addresses: bool = False,
        admits: Callable[[IpAddress], bool] = is_public,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.limits = limits or FetchLimits()
        self._admits = _admit_all if allow_private_addresses else admits
        self._resolver = resolver
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        names = _GuardedResolver(self._resolver or aiohttp.ThreadedResolver(), self._admits)
        # No cache of names: an answer is used for the one connection that it was checked for.
        connector = aiohttp.TCPConnector(resolver=names, use_dns_cache=False, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": AGENT, "Accept": "image/*,*/*;q=0.5"},
            skip_auto_headers=("Accept-Encoding",),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def fetch(self, url: str) -> Fetched:
        """Fetch the whole body behind an address; raises FetchError."""
        start = check_url(url)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.limits.timeout * self.limits.tries
        for attempt in itertools.count(1):
            try:
                return await self._follow(start)
            except _AgainError as again:
                pause = self._pause(attempt, again.retry_after)
                if attempt == self.limits.tries or loop.time() + pause > deadline:
                    detail = f"{again.detail} (tried {attempt} times)"
                    raise FetchError(again.code, detail) from again
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _follow(self, start: URL) -> Fetched:
        left = self.limits.timeout
        loop = asyncio.get_running_loop()
        url = start
        for _ in range(self.limits.max_redirects + 1):
            async with self._turn(url.host or ""):
                began = loop.time()
                answer = await self._hop(url, seconds=left)
            if isinstance(answer, Fetched):
                return answer
            # Waiting for a turn at a busy host is politeness, not the host's slowness.
            left -= loop.time() - began
            url = answer
        raise FetchError(
            "too_many_redirects", f"more than {self.limits.max_redirects} redirects, last to {url}"
        )

    def _turn(self, host: str) -> asyncio.Semaphore:
        turn = self._hosts.get(host)
        if turn is None:
            turn = self._hosts[host] = asyncio.Semaphore(self.limits.per_host)
        return turn

    async def _hop(self, url: URL, *, seconds: float) -> Fetched | URL:
        self._check_literal(url)
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.get(url, allow_redirects=False) as answer,
            ):
                return await self._read(url, answer)
        except TimeoutError:
            raise FetchError(
                "timeout", f"no whole answer within {self.limits.timeout:g} s from {url.host}"
            ) from None
        except aiohttp.ClientError as error:
            raise _translated(error, url) from error
        except ValueError as error:
            raise FetchError("bad_url", f"{url}: {error}") from error

    def _check_literal(self, url: URL) -> None:
        # aiohttp asks its resolver only about names, so addresses are checked here.
        address = literal_address(url.host or "")
        if address is not None and not self._admits(address):
            raise _private(str(url.host), address)

    async def _read(self, url: URL, answer: aiohttp.ClientResponse) -> Fetched | URL:
        if answer.status in REDIRECTS and "Location" in answer.headers:
            return _joined(url, answer.headers["Location"])
        if answer.status in RETRIED:
            raise _AgainError(
                f"http_{answer.status}",
                f"{url.host} answered {answer.status} {answer.reason}",
                retry_after=_seconds(answer.headers.get("Retry-After")),
            )
        if answer.status != 200:
            raise FetchError(
                f"http_{answer.status}", f"{url.host} answered {answer.status} {answer.reason}"
            )
        data = await self._body(answer)
        return Fetched(data, answer.headers.get("Content-Type"), str(url))

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        limit = self.limits.max_bytes
        # Content-Length is a claim: it may spare us a download, but never allows one.
        if answer.content_length is not None and answer.content_length > limit:
            raise _too_large(limit)
        data = bytearray()
        async for chunk in answer.content.iter_chunked(CHUNK):
            data += chunk
            if len(data) > limit:
                raise _too_large(limit)
        return _decoded(bytes(data), answer.headers.get("Content-Encoding"), limit=limit)

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        if retry_after is not None:
            return min(max(retry_after, 0.0), self.limits.max_retry_after)
        pause = self.limits.backoff * 2.0 ** (attempt - 1)
        return pause * random.uniform(0.5, 1.5)


def check_url(text: str) -> URL:
    """Parse an address before anything is asked of it; raises FetchError."""
    shown = text if len(text) <= 200 else text[:200] + "…"
    if len(text) > MAX_URL and not text[:8].lower().startswith("http"):
        raise FetchError("wrong_scheme", f"{shown}: only http and https addresses are fetched")
    if len(text) > MAX_URL:
        raise FetchError("bad_url", f"{shown}: longer than {MAX_URL} characters")
    try:
        url = URL(text, encoded=PLAIN.fullmatch(text) is not None).with_fragment(None)
        host, port = url.host, url.port
    except ValueError as error:
        raise FetchError("bad_url", f"{shown}: {error}") from error
    if url.scheme not in {"http", "https"}:
        raise FetchError("wrong_scheme", f"{shown}: only http and https addresses are fetched")
    if not host or not port or CONTROL.search(url.raw_authority) or "\\" in text:
        raise FetchError("bad_url", f"{shown}: no usable host in the address")
    if url.raw_user is not None or url.raw_password is not None:
        raise FetchError("bad_url", f"{url.scheme}://{host}: take name and password out")
    try:
        literal_address(host)
    except ValueError as error:
        raise FetchError("bad_url", f"{error}; write it with four decimal parts") from error
    return url


class _AgainError(FetchError):
    """A failure that may pass by itself."""

    def __init__(self, code: str, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class _GuardedResolver(AbstractResolver):
    """Answers only with addresses that passed; aiohttp connects to what it answers."""

    def __init__(self, inner: AbstractResolver, admits: Callable[[IpAddress], bool]) -> None:
        self._inner = inner
        self._admits = admits

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for answer in found:
            address = ip_address(answer["host"].partition("%")[0])
            # One bad answer spoils all: a host that is half private is no public host.
            if not self._admits(address):
                raise _private(host, address)
        return found

    async def close(self) -> None:
        await self._inner.close()


def _admit_all(address: IpAddress) -> bool:
    del address
    return True


def _private(host: str, address: IpAddress) -> FetchError:
    return FetchError(
        "private_address",
        f"{host} is {address}, which is not in the public internet; "
        "upload the pictures as a zip, or have the operator allow private addresses",
    )


def _too_large(limit: int) -> FetchError:
    return FetchError("too_large", f"more than {limit} bytes")


def _joined(url: URL, location: str) -> URL:
    encoded = PLAIN.fullmatch(location) is not None
    try:
        target = url.join(URL(location.strip(), encoded=encoded))
    except ValueError as error:
        raise FetchError("bad_url", f"redirect from {url.host}: {error}") from error
    return check_url(str(target))


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - datetime.now(UTC)).total_seconds()


def _decoded(data: bytes, encoding: str | None, *, limit: int) -> bytes:
    """Unpack a body that a host compressed though nobody asked it to, never past the limit."""
    if encoding is None or encoding.strip().lower() in {"", "identity"}:
        return data
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        raise FetchError("bad_answer", f"the host answered in the encoding {encoding!r}")
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        unpacked = unpack.decompress(data, limit + 1)
    except zlib.error as error:
        raise FetchError("bad_answer", f"the body is no {encoding}: {error}") from error
    if len(unpacked) > limit:
        raise _too_large(limit)
    return unpacked


def _translated(error: aiohttp.ClientError, url: URL) -> FetchError:
    host = url.host
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return FetchError("dns", f"{host} was not found: {error.os_error}")
    if isinstance(error, aiohttp.ClientSSLError):
        return FetchError("tls", f"{host}: {error}")
    if isinstance(error, aiohttp.InvalidURL):
        return FetchError("bad_url", f"{url}: {error}")
    if isinstance(error, aiohttp.ClientResponseError):
        return FetchError("bad_answer", f"{host} does not speak HTTP: {error.message}")
    return _AgainError("connection", f"the connection to {host} failed: {error}")
