"""Pictures over HTTP, good ones and every kind of bad one."""

import io
import socket
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from bearloop.contract.preprocess import Preprocess
from bearloop.preprocess import preprocess
from tests.inference import bundles
from tests.inference.bundles import BLUE, GREEN, RED, SIZE, picture
from tests.inference.conftest import Start


def animated() -> bytes:
    written = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE)]
    frames[0].save(written, "GIF", save_all=True, append_images=frames[1:])
    return written.getvalue()


def sideways() -> bytes:
    """Return a picture whose left half is red as stored, and whose top half is red as shown."""
    image = Image.new("RGB", (40, 20), BLUE)
    image.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    written = io.BytesIO()
    image.save(written, "PNG", exif=exif)
    return written.getvalue()


def huge_header() -> bytes:
    """Return a PNG that says it has 60,000 x 60,000 pixels."""
    data = bytearray(picture())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == answer.status_code
    return told


@pytest.mark.parametrize("colour", [RED, GREEN, BLUE])
def test_the_answer_is_what_numpy_computes_from_the_weights(
    public: httpx.Client, bundle: str, colour: tuple[int, int, int]
) -> None:
    answer = public.post("/classify", content=picture(colour))
    assert answer.status_code == 200
    told = answer.json()
    wanted = bundles.expected(colour)
    best = max(wanted, key=lambda name: wanted[name])
    ids = {entry.name: entry.id for entry in bundles.CLASSES}
    assert (told["class"], told["class_id"]) == (best, ids[best])
    assert told["confidence"] == pytest.approx(wanted[best], abs=1e-5)
    assert told["bundle"] in bundle
    shares = [entry["probability"] for entry in told["predictions"]]
    assert shares == sorted(shares, reverse=True)
    assert {entry["class"]: entry["probability"] for entry in told["predictions"]} == (
        pytest.approx(wanted, abs=1e-5)
    )
    assert {entry["class"]: entry["class_id"] for entry in told["predictions"]} == ids


def test_a_form_and_a_raw_body_give_the_same_answer(public: httpx.Client) -> None:
    raw = public.post("/classify", content=picture(GREEN))
    form = public.post(
        "/classify",
        data={"note": "a field before the picture"},
        files={"file": ("a.png", picture(GREEN), "image/png")},
    )
    assert form.status_code == 200
    assert form.json() == raw.json()


def test_curls_default_content_type_is_no_obstacle(public: httpx.Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert public.post("/classify", content=picture(), headers=form).status_code == 200


def test_a_picture_is_turned_upright_as_in_training(public: httpx.Client) -> None:
    # The centre square of the upright picture is half red, half blue; so is that of the stored
    # one, but only upright is it what the training's transform makes of the same bytes.
    pixels = preprocess(sideways(), Preprocess(size=SIZE))
    means = pixels.mean(axis=(1, 2))
    logits = means @ bundles.WEIGHTS + bundles.BIAS
    share = np.exp(logits) / np.exp(logits).sum()
    told = public.post("/classify", content=sideways()).json()
    assert told["confidence"] == pytest.approx(float(share.max()), abs=1e-5)
    assert pixels[0, 0].mean() > pixels[0, -1].mean()


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"hello, I am no picture", 415, "not_a_picture"),
        (picture(side=200, kind="JPEG")[:600], 422, "truncated"),
        (animated(), 422, "animated"),
        (huge_header(), 422, "too_many_pixels"),
    ],
    ids=["empty", "text", "truncated", "animated", "huge"],
)
def test_what_is_no_good_picture_is_refused_with_the_way_out(
    public: httpx.Client, data: bytes, status: int, code: str
) -> None:
    for answer in (
        public.post("/classify", content=data),
        public.post("/classify", files={"file": ("a.jpg", data)}),
    ):
        assert (answer.status_code, problem(answer)["code"]) == (status, code)
        assert len(problem(answer)["detail"]) > 20


def test_a_form_without_the_field_is_refused(public: httpx.Client) -> None:
    answer = public.post("/classify", files={"picture": ("a.png", picture())})
    assert answer.status_code == 400
    assert "`-F file=@NAME`" in problem(answer)["detail"]


def test_a_broken_form_is_refused(public: httpx.Client) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = public.post("/classify", content=b"no form", headers={"Content-Type": kind})
        assert (answer.status_code, problem(answer)["code"]) == (400, "malformed")


def test_a_body_over_the_limit_is_refused_while_it_comes(start: Start) -> None:
    server = start({"BEARLOOP_MAX_BYTES": "100000"}).wait_until_ready()
    told = server.client.post("/classify", content=b"x" * 100_001)
    assert (told.status_code, problem(told)["code"]) == (413, "too_large")
    form = server.client.post("/classify", files={"file": ("a.png", b"x" * 100_001)})
    assert form.status_code == 413
    # Without a Content-Length only counting does it; the body has no end, the answer comes.
    head = b"POST /classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + b"19000\r\n" + b"x" * 0x19000 + b"\r\n")
        assert connection.recv(12) == b"HTTP/1.1 413"
    assert server.client.post("/classify", content=picture()).status_code == 200


def test_unknown_paths_and_methods_are_told_as_problems(public: httpx.Client) -> None:
    assert problem(public.get("/nowhere"))["code"] == "not_found"
    assert problem(public.get("/classify"))["code"] == "method_not_allowed"
