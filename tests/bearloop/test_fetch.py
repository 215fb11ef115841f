"""The guarded fetcher against real servers on this machine."""

import asyncio
import gzip
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from bearloop.addresses import IpAddress
from bearloop.fetch import Fetched, Fetcher, FetchError, FetchLimits
from tests.fixtures.web import Web, web_server

QUICK = FetchLimits(max_bytes=10_000, timeout=5, backoff=0.01, max_retry_after=0.05)


@pytest.fixture
def site() -> Iterator[Web]:
    with web_server() as running:
        yield running


class Names(AbstractResolver):
    """Answers each question with the next addresses, the last for ever; none: unknown name."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.questions = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        self.questions += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not found:
            raise OSError(socket.EAI_NONAME, "not known")
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
            for address in found
        ]

    async def close(self) -> None: ...


def fetch(
    *urls: str,
    limits: FetchLimits = QUICK,
    allow: bool = True,
    names: AbstractResolver | None = None,
    admits: Callable[[IpAddress], bool] | None = None,
) -> list[Fetched | FetchError]:
    async def all_of_them() -> list[Fetched | FetchError]:
        judge = {} if admits is None else {"admits": admits}
        allowed = allow and admits is None
        async with Fetcher(
            limits, allow_private_addresses=allowed, resolver=names, **judge
        ) as fetcher:
            return [await _outcome(fetcher, url) for url in urls]

    return asyncio.run(all_of_them())


def code(*urls: str, **options: object) -> str:
    (outcome,) = fetch(*urls, **options)  # type: ignore[arg-type]
    assert isinstance(outcome, FetchError), outcome
    assert outcome.detail
    return outcome.code


def body(*urls: str, **options: object) -> bytes:
    (outcome,) = fetch(*urls, **options)  # type: ignore[arg-type]
    assert isinstance(outcome, Fetched), outcome
    return outcome.data


class TestWhatIsFetched:
    def test_a_body_comes_whole_with_its_type(self, site: Web) -> None:
        (fetched,) = fetch(site.serve("/bear.jpg", b"bear", content_type="image/png"))
        assert fetched == Fetched(b"bear", "image/png", f"{site.url}/bear.jpg")

    def test_a_signed_query_arrives_as_it_was_written(self, site: Web) -> None:
        site.serve("/bear.jpg", b"bear")
        query = "?sig=a%2Bb%2F%3D%20c+d&n=1"
        assert body(f"{site.url}/bear.jpg{query}#top") == b"bear"
        assert site.queries == [f"/bear.jpg{query}"]

    def test_blanks_and_umlauts_in_a_path_are_quoted(self, site: Web) -> None:
        site.serve("/my bär.jpg", b"bear")
        assert body(f"{site.url}/my bär.jpg") == b"bear"

    def test_redirects_are_followed_also_relative_ones(self, site: Web) -> None:
        site.serve("/c/bear.jpg", b"bear")
        site.redirect("/b/next", "../c/bear.jpg")
        (fetched,) = fetch(site.redirect("/a", "/b/next"))
        assert fetched == Fetched(b"bear", "image/jpeg", f"{site.url}/c/bear.jpg")

    def test_a_body_compressed_unasked_is_unpacked_within_the_limit(self, site: Web) -> None:
        def packed(data: bytes) -> Callable[[web.Request], object]:
            async def page(request: web.Request) -> web.Response:
                assert request.headers.get("Accept-Encoding") is None
                return web.Response(body=gzip.compress(data), headers={"Content-Encoding": "gzip"})

            return page

        site.pages["/small"] = packed(b"bear")  # type: ignore[assignment]
        site.pages["/bomb"] = packed(bytes(5_000_000))  # type: ignore[assignment]
        assert body(f"{site.url}/small") == b"bear"
        assert code(f"{site.url}/bomb") == "too_large"

    def test_a_busy_host_is_asked_again_after_what_it_says(self, site: Web) -> None:
        async def busy_once(request: web.Request) -> web.Response:
            if site.asked["/busy"] < 3:
                return web.Response(status=429, headers={"Retry-After": "3600"})
            return web.Response(body=b"bear")

        site.pages["/busy"] = busy_once
        assert body(f"{site.url}/busy") == b"bear"
        assert site.asked["/busy"] == 3

    def test_one_host_gets_no_more_than_its_share_at_once(self, site: Web) -> None:
        async def slow(request: web.Request) -> web.Response:
            await asyncio.sleep(0.02)
            return web.Response(body=b"bear")

        site.pages["/slow"] = slow

        async def many() -> list[Fetched]:
            async with Fetcher(QUICK, allow_private_addresses=True) as fetcher:
                return await asyncio.gather(
                    *(fetcher.fetch(f"{site.url}/slow?{n}") for n in range(40))
                )

        assert len(asyncio.run(many())) == 40
        assert site.most_at_once == QUICK.per_host


class TestWhatIsRefused:
    def test_a_missing_page_is_not_asked_for_twice(self, site: Web) -> None:
        assert code(f"{site.url}/gone") == "http_404"
        assert site.asked["/gone"] == 1

    def test_a_broken_host_is_asked_three_times(self, site: Web) -> None:
        assert code(site.serve("/broken", b"", status=503)) == "http_503"
        assert site.asked["/broken"] == 3

    def test_a_closed_port_is_a_failed_connection(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            assert code(f"http://127.0.0.1:{port}/") == "connection"

    def test_a_body_that_breaks_off_is_a_failed_connection(self, site: Web) -> None:
        async def cut(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"Content-Length": "1000"})
            await answer.prepare(request)
            await answer.write(b"half")
            assert request.transport is not None
            request.transport.close()
            return answer

        site.pages["/cut"] = cut
        assert code(f"{site.url}/cut") == "connection"

    def test_a_host_that_never_ends_runs_into_the_timeout(self, site: Web) -> None:
        async def drip(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            while True:
                await answer.write(b".")
                await asyncio.sleep(0.02)

        site.pages["/drip"] = drip
        assert code(f"{site.url}/drip", limits=QUICK._replace(timeout=0.2)) == "timeout"
        assert site.asked["/drip"] == 1

    def test_a_body_without_end_is_cut_at_the_limit(self, site: Web) -> None:
        async def flood(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            while True:
                await answer.write(bytes(65536))

        site.pages["/flood"] = flood
        assert code(f"{site.url}/flood") == "too_large"

    def test_a_body_that_says_it_is_too_large_is_not_read(self, site: Web) -> None:
        assert code(site.serve("/large", bytes(10_001))) == "too_large"
        assert body(site.serve("/fits", bytes(10_000))) == bytes(10_000)

    def test_the_sixth_redirect_is_one_too_many(self, site: Web) -> None:
        site.serve("/5", b"bear")
        for step in range(5):
            site.redirect(f"/{step}", f"/{step + 1}")
        assert body(f"{site.url}/0") == b"bear"
        assert code(site.redirect("/loop", "/loop")) == "too_many_redirects"
        assert site.asked["/loop"] == 6

    def test_an_unknown_name_is_said_to_be_one(self) -> None:
        assert code("http://nobody.test/", names=Names([])) == "dns"

    @pytest.mark.parametrize(
        "url", ["ftp://h/x", "file:///etc/passwd", "data:image/png;base64,AAAA", "bear.jpg", "//h"]
    )
    def test_only_http_and_https_are_fetched(self, url: str) -> None:
        assert code(url) == "wrong_scheme"

    @pytest.mark.parametrize(
        "url",
        [
            "http://",
            "http:///x",
            "http://h:99999/",
            "http://h:0/",
            "http://user:secret@h/",
            "http://user@h/",
            "http://good.test\\@127.0.0.1/",
            "http://a b/",
            "http://h\r\nX: y/",
            "http://[::1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://h/" + "x" * 9000,
        ],
    )
    def test_an_address_that_is_none_is_refused(self, url: str) -> None:
        assert code(url) == "bad_url"


class TestTheGuard:
    def test_nothing_connects_to_a_private_literal(self, site: Web) -> None:
        assert code(f"{site.url}/bear.jpg", allow=False) == "private_address"
        assert code("http://[::1]:1/", allow=False) == "private_address"
        assert code("http://[::ffff:127.0.0.1]:1/", allow=False) == "private_address"
        assert not site.asked

    def test_nothing_connects_to_a_name_with_any_private_address(self, site: Web) -> None:
        names = Names(["93.184.216.34", "127.0.0.1"])
        address = f"http://bears.test:{site.port}/bear.jpg"
        assert code(address, allow=False, names=names) == "private_address"
        assert not site.asked

    def test_localhost_is_private_by_the_machines_own_resolver(self, site: Web) -> None:
        assert code(f"http://localhost:{site.port}/", allow=False) == "private_address"
        assert not site.asked

    def test_a_redirect_to_a_private_address_is_not_followed(self, site: Web) -> None:
        # 127.0.0.2 plays the public internet, 127.0.0.1 the private network.
        with web_server("127.0.0.2") as outside:
            to_literal = outside.redirect("/a", f"{site.url}/secret")
            to_name = outside.redirect("/b", f"http://intern.test:{site.port}/secret")
            assert code(to_literal, admits=_outside) == "private_address"
            assert code(to_name, admits=_outside, names=Names(["127.0.0.1"])) == ("private_address")
            assert outside.asked.total() == 2
        assert not site.asked

    def test_a_name_that_turns_private_after_the_check_is_not_followed(self, site: Web) -> None:
        names = Names(["127.0.0.2"], ["127.0.0.1"])
        with web_server("127.0.0.2", port=site.port) as outside:
            outside.serve("/bear.jpg", b"bear")
            url = f"http://bears.test:{site.port}/bear.jpg"
            # A connection closed by the host makes the second fetch ask for the name again.
            outside.pages["/bear.jpg"] = _closing
            first, second = fetch(url, url, names=names, admits=_outside)
        assert isinstance(first, Fetched)
        assert isinstance(second, FetchError)
        assert second.code == "private_address"
        assert names.questions == 2
        assert not site.asked

    def test_one_connection_asks_for_the_name_once(self, site: Web) -> None:
        names = Names(["127.0.0.2"], ["127.0.0.1"])
        with web_server("127.0.0.2", port=site.port) as outside:
            outside.serve("/bear.jpg", b"bear")
            assert body(
                f"http://bears.test:{site.port}/bear.jpg", names=names, admits=_outside
            ) == (b"bear")
        assert names.questions == 1
        assert not site.asked

    def test_a_proxy_of_the_environment_is_not_used(
        self, site: Web, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert body(site.serve("/bear.jpg", b"bear")) == b"bear"


def _outside(address: IpAddress) -> bool:
    return address == ip_address("127.0.0.2")


async def _closing(request: web.Request) -> web.Response:
    answer = web.Response(body=b"bear")
    answer.force_close()
    return answer


async def _outcome(fetcher: Fetcher, url: str) -> Fetched | FetchError:
    try:
        return await fetcher.fetch(url)
    except FetchError as error:
        return error
