"""Who may ask a private endpoint: the bearers of tokens whose hashes stand in a file."""

import hashlib
import hmac
import logging
import re
from pathlib import Path

from inference.errors import UnauthorisedError

logger = logging.getLogger(__name__)
HASH = re.compile(r"[0-9a-f]{64}")


class TokenFileError(Exception):
    """The file of token hashes is missing or holds something else: which line, the way out."""


class Tokens:
    """The valid tokens' hashes; without a file the endpoint is public."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._seen: tuple[int, int] | None = None
        self._hashes: tuple[bytes, ...] = ()
        if file is not None:
            self._read(file)

    def check(self, authorization: str | None) -> None:
        """Pass the holder of a valid token, or anybody if public; raises UnauthorisedError."""
        if self.file is None:
            return
        self._refresh(self.file)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthorisedError("this endpoint is private: send `Authorization: Bearer TOKEN`")
        given = hashlib.sha256(token.strip().encode()).hexdigest().encode()
        # Each one is compared, whole: the time says nothing about which matched, or how far.
        if not sum([hmac.compare_digest(given, valid) for valid in self._hashes]):
            raise UnauthorisedError("the token is not valid here: ask for one of this endpoint")

    def _refresh(self, file: Path) -> None:
        """Read the file again once it changed, so that a revoked token ends without a restart."""
        try:
            if _stamp(file) != self._seen:
                self._read(file)
        except (OSError, TokenFileError) as error:
            logger.warning("keeping the tokens read before: %s", error)

    def _read(self, file: Path) -> None:
        try:
            seen = _stamp(file)
            lines = file.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenFileError(f"{file}: {error}") from error
        for number, line in enumerate(lines, 1):
            if not HASH.fullmatch(line):
                raise TokenFileError(
                    f"{file}: entry {number} is no sha256 in lower-case hex: "
                    "write the token's hash, never the token"
                )
        self._seen = seen
        self._hashes = tuple(line.encode() for line in lines)


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_ino
