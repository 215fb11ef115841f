"""Which storage addresses a member may name: `s3:` and `file:` within what the operator lists."""

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from api.errors import UnprocessableError
from bearloop.store_addresses import climbs, is_within


class ForbiddenAddressError(UnprocessableError):
    """The address lies outside what the operator lists for the project."""

    code = "forbidden_address"
    title = "Forbidden address"


class BadAddressError(UnprocessableError):
    """No storage address at all."""

    code = "bad_address"
    title = "Bad address"


def check_address(uri: str, *, allowed: Iterable[str], local: bool, field: str) -> None:
    """Refuse what is no plain `s3://bucket/prefix` or `file:///path`, or is not allowed here.

    `local` lets every `file:` address pass: the members are at their own machine.
    """
    parts = urlsplit(uri)
    named = parts.netloc if parts.scheme == "s3" else parts.path.startswith("/")
    plain = not climbs(uri) and not set("?#") & set(unquote(uri))
    foreign_host = parts.scheme == "file" and parts.netloc not in ("", "localhost")
    if parts.scheme not in ("s3", "file") or not named or foreign_host or not plain:
        raise BadAddressError(
            f"{uri!r} is no storage address",
            field=field,
            value=uri,
            way_out="write s3://bucket/prefix or file:///folder, without `..`, `?` and `#`",
        )
    if parts.scheme == "file" and local:
        return
    if not any(is_within(uri, prefix) for prefix in allowed):
        raise ForbiddenAddressError(
            f"{uri} is not within the sources that the operator lists for this project",
            field=field,
            value=uri,
            way_out="ask an admin of the platform to add its prefix to the project's "
            "allowed_sources" + ("" if parts.scheme == "s3" else ", or upload a zip"),
        )
