"""The evaluation transform as a value: validation, test-time augmentation and serving share it."""

from typing import Literal

from pydantic import Field

from bearloop.contract.record import Record

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocess(Record):
    """How original bytes become the model's input, float32 [3, size, size]."""

    size: int = Field(default=224, ge=8, le=1024)
    """Side in pixels of the square input."""
    resize: Literal["crop", "pad", "squish"] = "crop"
    """`crop`: the centre square; `pad`: all of it on black; `squish`: both sides to `size`."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    """Per channel, of pixels in 0..1."""
