"""The one decoder against what people and hostile hosts bring."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bearloop.preprocess import JPEG_MARKER, PictureError, picture_format, read_picture
from tests.fixtures.pictures import (
    SIZE,
    animated_gif,
    encoded,
    huge_png,
    jpeg,
    phone_jpeg,
    photo,
    rotated_jpeg,
)

WHOLE = {
    "jpeg": jpeg(),
    "progressive": encoded(photo(), progressive=True),
    "with a preview inside": encoded(photo(), exif=b"Exif\0\0" + jpeg(9, (16, 16))),
    "png": encoded(photo(), "PNG"),
    "gif": encoded(photo(), "GIF"),
    "webp": encoded(photo(), "WEBP"),
    "lossless webp": encoded(photo(), "WEBP", lossless=True),
    "bmp": encoded(photo(), "BMP"),
}


def refusal(data: bytes, max_pixels: int = 1_000_000) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(data, max_pixels=max_pixels)
    assert caught.value.detail
    return caught.value.code


class TestWhatIsTaken:
    @pytest.mark.parametrize("kind", WHOLE)
    def test_every_format_decodes_to_upright_rgb(self, kind: str) -> None:
        picture = read_picture(WHOLE[kind])
        assert (picture.mode, picture.size) == ("RGB", SIZE)

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_a_turned_photo_is_set_upright(self, orientation: int) -> None:
        turned = rotated_jpeg(orientation)
        with Image.open(io.BytesIO(turned)) as image:
            image.load()
            backwards = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"} | {
                5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"
            }  # fmt: skip
            expected = image.transpose(Image.Transpose[backwards[orientation]])
        assert np.array_equal(read_picture(turned), expected)

    @pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
    def test_an_unknown_orientation_leaves_the_photo_as_it_is(self, orientation: int) -> None:
        assert read_picture(rotated_jpeg(orientation)).size == SIZE

    def test_a_broken_exif_block_does_not_cost_a_good_photo(self) -> None:
        broken = encoded(photo(), exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
        assert read_picture(broken).size == SIZE

    def test_ink_grey_palette_and_sixteen_bits_become_rgb(self) -> None:
        grey = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
        for data in (
            encoded(photo().convert("CMYK")),
            encoded(photo().convert("L")),
            encoded(photo().convert("1"), "PNG"),
            encoded(photo().convert("P"), "PNG"),
            encoded(photo().convert("LA"), "PNG"),
        ):
            assert (read_picture(data).mode, read_picture(data).size) == ("RGB", SIZE)
        deep = np.asarray(read_picture(encoded(Image.fromarray(grey), "PNG")))
        assert np.array_equal(deep[:, :, 0], grey >> 8)

    def test_transparency_is_laid_on_white(self) -> None:
        clear = encoded(Image.new("P", SIZE), "PNG", transparency=0)
        assert read_picture(clear).getpixel((5, 5)) == (255, 255, 255)

    def test_a_phones_jpeg_with_a_map_behind_is_a_photo(self) -> None:
        assert read_picture(phone_jpeg()).size == SIZE

    def test_bytes_behind_the_end_do_no_harm(self) -> None:
        assert read_picture(jpeg() + bytes(1000)).size == SIZE
        assert read_picture(jpeg() + b"\xff\xda a film of the moment").size == SIZE

    def test_a_long_run_of_the_marker_byte_is_passed_over_once(self) -> None:
        # A search that begins anew at each byte of the run would not come back for hours.
        data = jpeg()
        scan = data.index(b"\xff\xda") + 2
        scan += int.from_bytes(data[scan : scan + 2], "big")
        stuffed = data[:scan] + b"\xff" * 1_000_000 + b"\0" + data[scan:]
        assert read_picture(stuffed).size == SIZE

    @given(
        data=st.lists(st.sampled_from(b"\x00\x01\xd0\xd7\xd8\xd9\xfe\xff"), max_size=12).map(bytes),
        start=st.integers(0, 12),
    )
    def test_a_marker_is_found_behind_any_number_of_marker_bytes(
        self, data: bytes, start: int
    ) -> None:
        told = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])").search(data, start)
        found = JPEG_MARKER.search(data, start)
        assert (found and (found.end(), found[1])) == (told and (told.end(), told[1]))


class TestWhatIsRefused:
    @pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind != "bmp"])
    def test_no_cut_of_a_picture_passes(self, kind: str) -> None:
        data = WHOLE[kind]
        # Every byte of head and tail, and a few hundred places in between.
        cuts = {*range(12, 64), *range(64, len(data), 1 + len(data) // 200)}
        cuts |= set(range(len(data) - 64, len(data) - (1 if "webp" in kind else 0)))
        passed = [cut for cut in sorted(cuts) if _code(data[:cut]) != "truncated"]
        assert passed == []

    def test_no_cut_of_a_bitmap_passes(self) -> None:
        data = WHOLE["bmp"]
        assert {_code(data[:cut]) for cut in range(20, len(data), 97)} == {"truncated"}

    def test_a_photo_filled_up_with_zeros_is_truncated(self) -> None:
        data = encoded(photo(size=(200, 200)), quality=95)
        for cut in range(len(data) // 2, len(data) - 2, len(data) // 40):
            assert refusal(data[:cut] + bytes(len(data) - cut)) == "truncated"

    def test_each_refusal_has_its_code(self) -> None:
        assert refusal(b"") == "empty_file"
        assert refusal(b"this is a text named .jpg") == "not_a_picture"
        assert refusal(b"<!DOCTYPE html><html><body>404</body></html>") == "not_a_picture"
        assert refusal(b"%PDF-1.7\n") == "not_a_picture"
        assert refusal(encoded(photo(), "TIFF")) == "not_a_picture"
        assert refusal(animated_gif()) == "animated"
        assert refusal(encoded(photo(), "WEBP", save_all=True, append_images=[photo(2)])) == (
            "animated"
        )
        assert refusal(encoded(photo(), "PNG", save_all=True, append_images=[photo(2)])) == (
            "animated"
        )
        assert refusal(huge_png()) == "too_many_pixels"
        assert refusal(jpeg(), max_pixels=64 * 48 - 1) == "too_many_pixels"

    def test_noise_in_a_picture_is_read_or_refused_but_never_breaks_the_decoder(self) -> None:
        dice = np.random.default_rng(7)
        for data in WHOLE.values():
            for _ in range(60):
                noisy = np.frombuffer(data, np.uint8).copy()
                places = dice.integers(0, len(noisy), 5)
                noisy[places] = dice.integers(0, 256, 5)
                _code(noisy.tobytes())


def test_the_format_is_read_off_the_bytes() -> None:
    found = [picture_format(data) for data in (*WHOLE.values(), b"", b"text")]
    assert found == ["JPEG"] * 3 + ["PNG", "GIF", "WEBP", "WEBP", "BMP", None, None]


def _code(data: bytes) -> str | None:
    try:
        read_picture(data, max_pixels=1_000_000)
    except PictureError as error:
        return error.code
    return None


TRANSPARENT = {
    "RGBA": {},
    "LA": {},
    "L": {"transparency": 7},
    "RGB": {"transparency": (7, 7, 7)},
    "P": {"transparency": bytes(range(256))},
    "1": {"transparency": 1},
}
"""Modes that a PNG with transparency comes in, and how it is saved."""


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_rows_are_laid_on_white_as_the_whole_picture_would_be(mode: str) -> None:
    # More pixels than are laid at a time, and a last part of other height.
    noise = np.random.default_rng(1).integers(0, 256, (1050, 1999, 4), dtype=np.uint8)
    noise[:9, :9] = 7
    buffer = io.BytesIO()
    Image.fromarray(noise, "RGBA").convert(mode).save(buffer, "PNG", **TRANSPARENT[mode])
    whole = Image.open(io.BytesIO(buffer.getvalue()))
    assert whole.has_transparency_data
    rgba = whole.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    expected = Image.alpha_composite(white, rgba).convert("RGB")
    assert read_picture(buffer.getvalue()).tobytes() == expected.tobytes()


MEASURED = """
import io
from pathlib import Path
from PIL import Image
from bearloop.preprocess import read_picture

def most() -> int:
    # Not getrusage: that begins with what the parent took.
    (line,) = [l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l]
    return int(line.split()[1]) * 1024

buffer = io.BytesIO()
Image.new("P", (4000, 4000)).save(buffer, "PNG", transparency=0)
before = most()
read_picture(buffer.getvalue())
print((most() - before) / 4000**2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured as Linux tells it")
def test_a_transparent_picture_takes_little_more_memory_than_an_opaque_one() -> None:
    told = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, check=True)
    # Itself (1 byte a pixel) and in RGB (4): whole copies in RGBA would add 12.
    assert float(told.stdout) < 8
