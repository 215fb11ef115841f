"""Idempotency-Key: a POST that is sent again is answered again, and does nothing twice.

The answer is kept in the transaction that did the work, so there is never one without the other.
A second request with the same key waits on the unique key until the first one's commit.
"""

import hashlib
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.database import Database
from api.errors import UnprocessableError
from api.tables import IdempotencyKey

HEADER = "idempotency-key"
LONGEST = 200
"""Characters of a key; PostgreSQL's index takes no long ones."""


KEPT = timedelta(days=1)
"""Long enough for any retry; an answer may hold a new token's secret."""


class KeyReusedError(UnprocessableError):
    """The key was used for another request."""

    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class BadKeyError(UnprocessableError):
    """The Idempotency-Key is empty or too long to be kept."""

    code = "bad_idempotency_key"
    title = "Bad idempotency key"


class AnsweredBefore(Exception):  # noqa: N818 - no error: the answer to give again
    """This request was answered before."""

    def __init__(self, kept: IdempotencyKey) -> None:
        super().__init__()
        self.kept = kept


class IdempotentRoute(APIRoute):
    """A route that keeps the answer of a POST that carries an Idempotency-Key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler; it ends before the session's dependency commits."""
        handle = super().get_route_handler()

        async def keep_answer(request: Request) -> Response:
            if request.method != "POST" or HEADER not in request.headers:
                return await handle(request)
            request.state.fingerprint = await _fingerprint(request)
            response = await handle(request)
            await run_in_threadpool(_keep, request, response)
            return response

        return keep_answer


def begin(request: Request, session: Session, *, token_id: int) -> None:
    """Take the request's key; raises AnsweredBefore when its answer is there."""
    fingerprint = getattr(request.state, "fingerprint", None)
    if fingerprint is None:
        return
    key = request.headers[HEADER]
    if not 0 < len(key) <= LONGEST:
        raise BadKeyError(
            f"the key has {len(key)} characters",
            field="Idempotency-Key",
            value=key[:LONGEST],
            way_out=f"use 1 to {LONGEST} characters, e.g. a UUID",
        )
    taken = session.scalar(
        insert(IdempotencyKey)
        .values(token_id=token_id, key=key, request=fingerprint)
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.key)
    )
    if taken is not None:
        request.state.idempotency = (token_id, key)
        return
    kept = session.get_one(IdempotencyKey, (token_id, key))
    if kept.request != fingerprint:
        raise KeyReusedError(
            f"the key {key!r} was used for another request",
            field="Idempotency-Key",
            value=key,
            way_out="use a new key for each new request, the same one only to send it again",
        )
    raise AnsweredBefore(kept)


def forget_answers(database: Database) -> None:
    """Forget the answers that nobody asks for any more, with their keys."""
    with database.transaction() as session:
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - KEPT))


def install(app: FastAPI) -> None:
    """Make the app give a kept answer again."""
    app.add_exception_handler(AnsweredBefore, _again)


async def _fingerprint(request: Request) -> str:
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    # Uploads are not read twice: they are named by their content anyway.
    if request.headers.get("content-type", "").startswith("application/json"):
        digest.update(await request.body())
    return digest.hexdigest()


def _keep(request: Request, response: Response) -> None:
    taken = getattr(request.state, "idempotency", None)
    if taken is None:
        return
    row = request.state.session.get_one(IdempotencyKey, taken)
    row.status = response.status_code
    row.body = bytes(response.body)
    row.location = response.headers.get("location")
    request.state.session.flush()


def _again(_: Request, answered: Exception) -> Response:
    assert isinstance(answered, AnsweredBefore)
    kept = answered.kept
    headers = {"Idempotency-Replayed": "true"}
    if kept.location:
        headers["Location"] = kept.location
    return Response(
        content=kept.body,
        status_code=kept.status or 200,
        media_type="application/json",
        headers=headers,
    )
