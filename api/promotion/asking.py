"""Asking a deployment over HTTP, as any client of it would."""

import base64
from functools import cache
from typing import Final

import httpx
from pydantic import BaseModel, ValidationError

PROBE: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mOsr69nwAaYGHCAwSkBAC3FAY1cxr/UAAAAAElFTkSuQmCC"
)
"""A grey picture of 8 x 8 pixels: enough to learn which bundle answers."""
TIMEOUT: Final = 10.0
"""Seconds for one picture."""
REFUSES_PICTURE: Final = (400, 413, 415, 422)


class NoAnswerError(Exception):
    """The deployment did not answer as it should; says what came instead. Ask again later."""


class PictureRefusedError(Exception):
    """The server answered, and does not take this picture; asking again changes nothing."""


class Prediction(BaseModel):
    """One class of an answer."""

    class_id: int
    probability: float


class Classified(BaseModel):
    """What a server says of one picture."""

    bundle: str
    """Digest of the bundle that answered."""
    predictions: list[Prediction]


def classify(url: str, picture: bytes, *, token: str | None) -> Classified:
    """POST the picture's original bytes; raises NoAnswerError and PictureRefusedError."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = f"{url.rstrip('/')}/classify"
    try:
        answer = _client().post(address, content=picture, headers=headers)
    except httpx.HTTPError as error:
        raise NoAnswerError(f"{address}: {type(error).__name__} {error}") from error
    if answer.status_code in REFUSES_PICTURE:
        raise PictureRefusedError(f"{address}: {answer.status_code} {answer.text[:300]}")
    if answer.status_code != 200:
        raise NoAnswerError(f"{address}: {answer.status_code} {answer.text[:300]}")
    try:
        return Classified.model_validate_json(answer.content)
    except ValidationError as error:
        raise NoAnswerError(f"{address}: not a server of bearloop: {error}") from error


@cache
def _client() -> httpx.Client:
    # Made once, as loading the certificates takes longer than asking. A connection is never used
    # again: it would go on asking the server that is being replaced. No proxy of the environment
    # stands between the worker and its own servers.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(timeout=TIMEOUT, trust_env=False, limits=limits)
