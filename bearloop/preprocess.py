"""The one evaluation transform: original bytes to the model's input, the same in every program."""

import io
import re
import struct
import warnings
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bearloop.contract.preprocess import Preprocess

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS: Final = 50_000_000
MAGIC: Final = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n"), "PNG"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), "BMP"),
)
# In a JPEG's coded data 0xff is followed by 0 or a restart marker; anything else is a marker.
# Any number of 0xff may stand before it: the last one does, and `\xff+` would be quadratic in them.
JPEG_MARKER: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
JPEG_START, JPEG_END = 0xD8, 0xD9
BAND: Final = 1 << 20
"""Pixels that are laid on white at a time."""
PNG_END: Final = b"IEND\xaeB`\x82"
EXIF_ORIENTATION: Final = 0x0112
TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BROKEN: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on broken files."""


class PictureError(Exception):
    """These bytes are no picture that bearloop takes; `code` is stable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def read_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode original bytes to an upright RGB picture, whole; raises PictureError.

    The EXIF orientation is applied, 16-bit grey is scaled to 8 bits, CMYK converted, and
    transparency laid on white. Animations are refused: which frame would carry the label?
    """
    if not data:
        raise PictureError("empty_file", "the file has 0 bytes; fetch or export it again")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures and odd EXIF blocks; we judge both ourselves.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_header(image, max_pixels)
                upright = _upright_rgb(image)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except (Image.DecompressionBombError, MemoryError):
        raise PictureError(
            "too_many_pixels", f"more than {max_pixels} pixels; scale it down"
        ) from None
    except BROKEN as error:
        raise _truncated(str(error)) from error
    _check_end(data)
    return upright


def picture_format(data: bytes) -> str | None:
    """Name the format by the first bytes (`JPEG`, `PNG`, …), or None for no picture we take."""
    return next((name for magic, name in MAGIC if magic.match(data)), None)


def to_pixels(image: Image.Image, spec: Preprocess) -> NDArray[np.uint8]:
    """Resize an RGB picture to uint8 [size, size, 3] in one interpolation."""
    side = (spec.size, spec.size)
    if spec.resize == "squish":
        resized = image.resize(side, Image.Resampling.BILINEAR)
    elif spec.resize == "pad":
        resized = ImageOps.pad(image, side, Image.Resampling.BILINEAR, color=(0, 0, 0))
    else:
        short = min(image.size)
        left, top = (image.width - short) / 2, (image.height - short) / 2
        box = (left, top, left + short, top + short)
        resized = image.resize(side, Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized, dtype=np.uint8)


def normalise(pixels: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.float32]:
    """Turn uint8 [..., size, size, 3] into normalised float32 [..., 3, size, size]."""
    mean = np.asarray(spec.mean, dtype=np.float32) * 255
    scale = 1 / (np.asarray(spec.std, dtype=np.float32) * 255)
    scaled = (pixels.astype(np.float32) - mean) * scale
    return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))


def preprocess(data: bytes, spec: Preprocess) -> NDArray[np.float32]:
    """Turn original bytes into the model's input, float32 [3, size, size]; raises PictureError."""
    return normalise(to_pixels(read_picture(data), spec), spec)


def _check_header(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise PictureError(
            "too_many_pixels",
            f"{image.width} x {image.height} is more than {max_pixels} pixels; scale it down",
        )
    # Phones append depth and gain maps to a JPEG (format MPO): the first picture is the photo.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise PictureError(
            "animated", "the picture is animated; export the one frame that is meant"
        )


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    turn = TURNS.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if upright.mode.startswith("I;16"):
        grey = np.asarray(upright).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if upright.mode == "I":
        grey = np.asarray(upright).clip(0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        return _on_white(upright)
    return upright.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Lay transparency on white, some rows at a time: five whole copies would be held at once."""
    laid = Image.new("RGB", image.size)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        rgba = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        laid.paste(Image.alpha_composite(white, rgba).convert("RGB"), box)
    return laid


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except BROKEN:
        # A good photograph is not refused for a broken EXIF block.
        return 1


def _check_end(data: bytes) -> None:
    """Refuse what decodes though its end is missing: Pillow takes zeros for coded pixels."""
    kind = picture_format(data)
    if kind == "JPEG" and not _jpeg_ends(data):
        raise _truncated("no end marker")
    if kind == "PNG" and PNG_END not in data:
        raise _truncated("no IEND chunk")
    if kind == "GIF" and not data.rstrip(b"\0\r\n").endswith(b";"):
        raise _truncated("no trailer")


def _jpeg_ends(data: bytes) -> bool:
    # Segment by segment: the preview inside an EXIF block has an end marker of its own.
    marker = JPEG_MARKER.search(data)
    while marker is not None and marker[1][0] != JPEG_END:
        position = marker.end()
        if marker[1][0] != JPEG_START:
            position += int.from_bytes(data[position : position + 2], "big")
        marker = JPEG_MARKER.search(data, position)
    return marker is not None


def _unidentified(data: bytes) -> PictureError:
    kind = picture_format(data)
    if kind is not None:
        return _truncated(f"the header of the {kind} is cut or broken")
    return PictureError(
        "not_a_picture",
        f"the bytes are none of {', '.join(FORMATS)}; convert the file or leave it out",
    )


def _truncated(why: str) -> PictureError:
    return PictureError(
        "truncated", f"the picture does not decode to its end ({why}); fetch or export it again"
    )
