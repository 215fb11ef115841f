"""Pictures in, classes out: the routes that people call."""

from functools import partial

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from inference.engine import Prediction
from inference.errors import BusyError, NotOfferedError
from inference.serving import Caller, Serving

router = APIRouter(tags=["classify"])
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


class ClassProbability(BaseModel):
    """One class of the model."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(serialization_alias="class")
    class_id: int
    """For ever the same, though the name may change."""
    probability: float
    """0..1; all classes' sum to 1."""


class Classified(BaseModel):
    """What the model sees in one picture."""

    name: str = Field(serialization_alias="class")
    """The likeliest class."""
    class_id: int
    confidence: float
    """Probability of that class."""
    predictions: list[ClassProbability]
    """Every class, the likeliest first."""
    bundle: str
    """Digest of the bundle that answered."""


@router.post("/classify", openapi_extra=PICTURE_BODY)
async def classify(request: Request, parts: Caller) -> Classified:
    """Classify the picture in the body: its bytes as they are, or the multipart field `file`."""
    parts.pool.check()
    async with parts.bodies.picture(request) as data:
        return await _classified(parts, data)


@router.get("/classify-url")
async def classify_url(url: str, parts: Caller) -> Classified:
    """Fetch a public http(s) address and classify the picture there."""
    if parts.fetcher is None:
        raise NotOfferedError("this endpoint fetches no addresses: POST the picture to /classify")
    parts.pool.check()
    if parts.fetches.locked():
        raise BusyError("too many addresses are being fetched at once: try again in a second")
    async with parts.fetches:
        fetched = await parts.fetcher.fetch(url)
    return await _classified(parts, fetched.data)


async def _classified(parts: Serving, data: bytes) -> Classified:
    predictions = await parts.pool.run(partial(parts.engine.classify, data))
    parts.metrics.predicted(predictions)
    best = predictions[0]
    return Classified(
        name=best.entry.name,
        class_id=best.entry.id,
        confidence=best.probability,
        predictions=[_told(prediction) for prediction in predictions],
        bundle=parts.engine.digest,
    )


def _told(prediction: Prediction) -> ClassProbability:
    entry = prediction.entry
    return ClassProbability(name=entry.name, class_id=entry.id, probability=prediction.probability)
