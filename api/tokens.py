"""Tokens: 256 random bits with a prefix and a checksum, kept as SHA-256 only."""

import hashlib
import secrets
import zlib

PREFIX = "bl_"


def new_token() -> str:
    """Make a token: `bl_`, 64 hex digits of randomness, 8 of their CRC-32."""
    body = secrets.token_hex(32)
    return f"{PREFIX}{body}{_checksum(body)}"


def looks_right(token: str) -> bool:
    """Tell a typing error from a wrong token without asking the database."""
    body, checksum = token[len(PREFIX) : -8], token[-8:]
    return token.startswith(PREFIX) and len(body) == 64 and _checksum(body) == checksum


def token_hash(token: str) -> bytes:
    """Return what the database keeps: 256 bits of entropy need no slow hash (OWASP ASVS 6.5.2)."""
    return hashlib.sha256(token.encode()).digest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
