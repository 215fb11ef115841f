"""What a page of another origin sends in a signed-in person's name is refused.

The cookie's SameSite does not cover other ports of the host, nor its sibling domains.
"""

from urllib.parse import urlsplit

from fastapi import Request

from api.errors import ApiError

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


class ForeignOriginError(ApiError):
    """Another site's page sent the request."""

    status = 403
    code = "foreign_origin"
    title = "Foreign origin"


def check_origin(request: Request) -> None:
    """Let only pages of this host change something; browsers say whose page it is."""
    if request.method in READING:
        return
    origin = request.headers.get("origin")
    own = request.headers.get("host", "")
    if origin is None or urlsplit(origin).netloc != own:
        raise ForeignOriginError(
            f"the request came from {origin or 'nowhere'}, not from {own}",
            field="Origin",
            value=origin,
            way_out="open the review page itself and send its form; programs send the token as "
            "`Authorization: Bearer bl_…`",
        )
