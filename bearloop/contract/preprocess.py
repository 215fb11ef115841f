"""The evaluation transform as a value: validation, test-time augmentation and serving share it."""

from typing import Annotated, Literal

from pydantic import Field

from bearloop.contract.record import Record

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Channels = tuple[Finite, Finite, Finite]
"""A number each for red, green and blue."""
Spreads = tuple[Positive, Positive, Positive]
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Spreads = (0.229, 0.224, 0.225)
LEAST_SIZE = 8

Resize = Literal["crop", "pad", "squish"]


class Preprocess(Record):
    """How original bytes become the model's input, float32 [3, size, size]."""

    size: int = Field(default=224, ge=LEAST_SIZE, le=1024)
    """Side in pixels of the square input."""
    resize: Resize = "crop"
    """`crop`: the centre square; `pad`: all of it on black; `squish`: both sides to `size`."""
    mean: Channels = IMAGENET_MEAN
    """Per channel, of pixels in 0..1."""
    std: Spreads = IMAGENET_STD
    """Per channel, of pixels in 0..1."""
