"""The Open Inference Protocol, version 2, in JSON: pixels in, logits and probabilities out."""

import math
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from inference.engine import Engine, probabilities
from inference.errors import MalformedError, UnknownModelError
from inference.health import readiness
from inference.serving import Anyone, Caller, Serving

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
MAX_PICTURES = 64
"""In one request."""
MARKS = 10_000
"""Brackets, braces, quotes and commas that a body may have beside those of its pixels."""
OUTPUTS = ("logits", "probabilities")


class InputTensor(BaseModel):
    """One input of a request."""

    name: str
    shape: list[int] = Field(max_length=8, fail_fast=True)
    datatype: Literal["FP32"]
    data: list[Any]
    """Numbers, flat in row-major order or nested."""


class WantedOutput(BaseModel):
    """The name of an output that the caller wants."""

    name: Literal["logits", "probabilities"]


class InferRequest(BaseModel):
    """The body of an inference request; what else the protocol allows in it is passed over."""

    id: str | None = None
    inputs: list[InputTensor] = Field(fail_fast=True)
    outputs: list[WantedOutput] | None = Field(default=None, fail_fast=True)


@router.get("")
async def server_metadata() -> dict[str, Any]:
    """Name the server."""
    return {"name": "bearloop", "version": version("bearloop"), "extensions": []}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Answer while the process runs."""
    return {"live": True}


@router.get("/health/ready")
async def ready(parts: Anyone) -> JSONResponse:
    """Say whether requests are welcome."""
    return readiness(parts)


@router.get("/models/{model}")
async def model_metadata(model: str, parts: Caller) -> dict[str, Any]:
    """Describe the model: its inputs, outputs and classes in the order of the outputs."""
    engine = _engine(parts, model)
    size, count = engine.card.preprocess.size, len(engine.classes)
    return {
        "name": model,
        "versions": [engine.digest],
        "platform": "onnxruntime_onnx",
        "inputs": [_shape(engine.card.input_name, [-1, 3, size, size])],
        "outputs": [_shape(name, [-1, count]) for name in OUTPUTS],
        "parameters": {
            "classes": [entry.name for entry in engine.classes],
            "preprocess": engine.card.preprocess.model_dump(mode="json"),
        },
    }


@router.get("/models/{model}/versions/{digest}")
async def version_metadata(model: str, digest: str, parts: Caller) -> dict[str, Any]:
    """Describe this version of the model, the one that is here."""
    _check_version(parts, model, digest)
    return await model_metadata(model, parts)


@router.get("/models/{model}/versions/{digest}/ready")
async def version_ready(model: str, digest: str, parts: Anyone) -> JSONResponse:
    """Say whether requests to this version of the model are welcome."""
    _check_version(parts, model, digest)
    return readiness(parts)


@router.get("/models/{model}/ready")
async def model_ready(model: str, parts: Anyone) -> JSONResponse:
    """Say whether requests to this model are welcome."""
    _engine(parts, model)
    return readiness(parts)


@router.post("/models/{model}/infer")
async def infer(model: str, request: Request, parts: Caller) -> JSONResponse:
    """Run the model on normalised pixels, FP32 [n, 3, size, size]."""
    engine = _engine(parts, model)
    parts.pool.check()
    async with parts.bodies.whole(request) as body:
        return JSONResponse(await parts.pool.run(partial(_infer, engine, body)))


@router.post("/models/{model}/versions/{digest}/infer")
async def version_infer(
    model: str, digest: str, *, request: Request, parts: Caller
) -> JSONResponse:
    """Run this version of the model, or no other."""
    _check_version(parts, model, digest)
    return await infer(model, request, parts)


def _check_version(parts: Serving, model: str, digest: str) -> None:
    engine = _engine(parts, model)
    if digest != engine.digest:
        raise UnknownModelError(f"no version {digest!r} of {model!r}: this is {engine.digest!r}")


def _engine(parts: Serving, model: str) -> Engine:
    if model != parts.engine.card.model:
        raise UnknownModelError(f"no model {model!r}: this is {parts.engine.card.model!r}")
    return parts.engine


def _shape(name: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": shape}


def _infer(engine: Engine, body: bytes) -> dict[str, Any]:
    """Answer one request; here, since parsing a batch's JSON is slow enough to need the thread."""
    _check_structure(body, engine.card.preprocess.size)
    try:
        asked = InferRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedError(f"{place or 'body'}: {first['msg']}") from error
    logits = engine.logits(_pixels(engine, asked))
    if not np.isfinite(logits).all():
        raise MalformedError(
            "data: the model answers these pixels with numbers that are not finite; "
            "normalise them with the mean and std of the metadata's `preprocess`"
        )
    found: dict[str, NDArray[Any]] = {"logits": logits, "probabilities": probabilities(logits)}
    wanted = [output.name for output in asked.outputs or []] or OUTPUTS
    answer = {
        "model_name": engine.card.model,
        "model_version": engine.digest,
        "outputs": [
            _shape(name, list(found[name].shape)) | {"data": found[name].ravel().tolist()}
            for name in wanted
        ],
    }
    return answer if asked.id is None else answer | {"id": asked.id}


def _check_structure(body: bytes, size: int) -> None:
    """Refuse, unread, what would be more numbers than are taken, or millions of other objects."""
    lists = sum(body.count(character) for character in (b"[", b"{", b'"'))
    # One list per row, channel and picture; one for each number would take 40 times the body.
    if lists > MARKS + MAX_PICTURES * (1 + 3 + 3 * size):
        raise MalformedError(
            f"body: {lists} brackets, braces and quotes; send `data` as numbers, flat or nested "
            "in pictures, channels and rows"
        )
    if (commas := body.count(b",")) > MARKS + MAX_PICTURES * 3 * size * size:
        raise MalformedError(
            f"body: {commas} commas; send at most {MAX_PICTURES} pictures of {3 * size * size} "
            "numbers each"
        )


def _pixels(engine: Engine, asked: InferRequest) -> NDArray[np.float32]:
    name, size = engine.card.input_name, engine.card.preprocess.size
    if [tensor.name for tensor in asked.inputs] != [name]:
        raise MalformedError(f"inputs: expected one, {name!r}")
    tensor = asked.inputs[0]
    if tensor.shape[1:] != [3, size, size] or not 1 <= tensor.shape[0] <= MAX_PICTURES:
        raise MalformedError(
            f"shape is {tensor.shape}: expected [n, 3, {size}, {size}], n at most {MAX_PICTURES}"
        )
    try:
        pixels = np.asarray(tensor.data, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise MalformedError(f"data: {error}") from error
    if pixels.size != math.prod(tensor.shape) or not np.isfinite(pixels).all():
        raise MalformedError(f"data: expected {math.prod(tensor.shape)} finite numbers")
    return pixels.reshape(tensor.shape)
