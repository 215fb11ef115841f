"""One picture's verification: decode it whole, fingerprint it, make its thumbnail."""

import io
from typing import Final, NamedTuple

from PIL import Image

from bearloop.preprocess import picture_format, read_picture
from importer.fingerprints import perceptual_hash, sha256_of

THUMBNAIL_QUALITY: Final = 80


class Verified(NamedTuple):
    """A picture that decodes to its end."""

    sha256: str
    width: int
    height: int
    """Pixels, upright."""
    format: str
    perceptual_hash: int
    thumbnail: bytes
    """Upright JPEG."""


def verify(data: bytes, *, max_pixels: int, thumbnail_size: int) -> Verified:
    """Decode original bytes and describe them; raises PictureError."""
    picture = read_picture(data, max_pixels=max_pixels)
    return Verified(
        sha256=sha256_of(data),
        width=picture.width,
        height=picture.height,
        # Only BMP files decode without the usual first bytes: their reserved ones vary.
        format=picture_format(data) or "BMP",
        perceptual_hash=perceptual_hash(picture),
        thumbnail=_thumbnail(picture, thumbnail_size),
    )


def _thumbnail(picture: Image.Image, longest: int) -> bytes:
    small = picture.copy()
    small.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()
