"""The Open Inference Protocol, as its clients speak it."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from bearloop.contract.environment import BUNDLE
from bearloop.contract.preprocess import Preprocess
from bearloop.preprocess import preprocess
from inference.open_inference import InferRequest
from tests.inference import bundles
from tests.inference.bundles import BLUE, GREEN, RED, SIZE, picture
from tests.inference.conftest import Start

INFER = "/v2/models/colours/infer"


def asked(**changes: object) -> dict[str, Any]:
    pixels = np.stack([preprocess(picture(RED), Preprocess(size=SIZE))] * 2)
    tensor = {"name": "pixels", "shape": list(pixels.shape), "datatype": "FP32"}
    return {"inputs": [tensor | {"data": pixels.ravel().tolist()} | changes]}


def test_pixels_give_logits_and_probabilities(public: httpx.Client, bundle: str) -> None:
    pixels = np.stack([preprocess(picture(c), Preprocess(size=SIZE)) for c in (RED, GREEN, BLUE)])
    body = asked(shape=[3, 3, SIZE, SIZE], data=pixels.tolist()) | {"id": "seven"}
    answer = public.post(INFER, json=body)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["id"], told["model_name"]) == ("seven", "colours")
    assert told["model_version"] in bundle
    logits, shares = told["outputs"]
    assert (logits["name"], shares["name"]) == ("logits", "probabilities")
    assert logits["shape"] == shares["shape"] == [3, 3]
    wanted = [list(bundles.expected(colour).values()) for colour in (RED, GREEN, BLUE)]
    assert np.reshape(shares["data"], (3, 3)) == pytest.approx(np.array(wanted), abs=1e-5)
    softmax = np.exp(np.reshape(logits["data"], (3, 3)))
    assert softmax / softmax.sum(axis=1, keepdims=True) == pytest.approx(np.array(wanted), abs=1e-5)


def test_only_the_wanted_outputs_are_answered(public: httpx.Client) -> None:
    body = asked() | {"outputs": [{"name": "probabilities"}]}
    outputs = public.post(INFER, json=body).json()["outputs"]
    assert [output["name"] for output in outputs] == ["probabilities"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "images"}, "'pixels'"),
        ({"shape": [1, 3, 8, 8]}, "expected [n, 3, 16, 16]"),
        ({"shape": [3, 3, SIZE, SIZE]}, "finite numbers"),
        ({"shape": []}, "expected [n, 3, 16, 16]"),
        ({"datatype": "INT8"}, "datatype"),
        ({"data": ["a"]}, "data"),
        ({"data": [[1.0], [1.0, 2.0]]}, "data"),
        ({"data": [None]}, "finite"),
        ({"data": [[]] * 20_000}, "brackets, braces and quotes"),
        ({"data": [[0]] * 20_000}, "brackets, braces and quotes"),
        ({"data": [{}] * 20_000}, "brackets, braces and quotes"),
        ({"data": [""] * 20_000}, "brackets, braces and quotes"),
        ({"data": [0] * 64 * 1000}, "at most 64 pictures of 768 numbers"),
        ({"shape": [1] * 9}, "at most 8"),
        ({"data": [3e38] * (2 * 3 * SIZE * SIZE)}, "the model answers these pixels"),
    ],
)
def test_a_malformed_request_is_told_why(
    public: httpx.Client, changes: dict[str, object], says: str
) -> None:
    answer = public.post(INFER, json=asked(**changes))
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert says in answer.json()["error"]


def test_the_largest_request_is_taken_however_deeply_it_is_nested(public: httpx.Client) -> None:
    pixels = np.zeros((64, 3, SIZE, SIZE))
    for data in (pixels.tolist(), pixels.ravel().tolist()):
        answer = public.post(INFER, json=asked(shape=list(pixels.shape), data=data))
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [0] * 9},
        {"inputs": [], "outputs": [0] * 9},
        {"inputs": [asked()["inputs"][0] | {"shape": [None] * 9}]},
    ],
)
def test_the_first_fault_of_millions_ends_the_reading(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        InferRequest.model_validate(body)
    assert caught.value.error_count() == 1


def test_errors_have_the_protocols_form(public: httpx.Client) -> None:
    for answer, status in (
        (public.post(INFER, content=b"{"), 400),
        (public.post("/v2/models/other/infer", json=asked()), 404),
        (public.get("/v2/models/other"), 404),
        (public.get("/v2/models/other/ready"), 404),
    ):
        assert answer.status_code == status
        assert isinstance(answer.json()["error"], str)


def test_metadata_says_what_the_model_takes_and_gives(public: httpx.Client, bundle: str) -> None:
    assert public.get("/v2").json()["name"] == "bearloop"
    assert public.get("/v2/health/live").json() == {"live": True}
    assert public.get("/v2/health/ready").json()["ready"] is True
    assert public.get("/v2/models/colours/ready").json()["ready"] is True
    told = public.get("/v2/models/colours").json()
    assert told["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 3, SIZE, SIZE]}]
    assert told["parameters"]["classes"] == ["black", "grizzly", "teddy"]
    assert told["versions"] == [bundle.split("/")[1]]


def test_a_version_is_the_bundles_digest_and_there_is_one(
    public: httpx.Client, private: httpx.Client, bundle: str
) -> None:
    digest = bundle.split("/")[1]
    here = f"/v2/models/colours/versions/{digest}"
    assert public.get(here).json() == public.get("/v2/models/colours").json()
    assert public.get(f"{here}/ready").json() == {"ready": True, "bundle": digest}
    told = public.post(f"{here}/infer", json=asked())
    assert told.status_code == 200
    assert told.json() == public.post(INFER, json=asked()).json()

    for wrong in (f"/v2/models/colours/versions/{digest[:-1]}", here.replace("colours", "other")):
        for answer in (
            public.get(wrong),
            public.get(f"{wrong}/ready"),
            public.post(f"{wrong}/infer", json=asked()),
        ):
            assert answer.status_code == 404
            assert answer.json()["error"].startswith("unknown_model: no ")

    nobody = {"Authorization": ""}
    assert private.get(here, headers=nobody).status_code == 401
    assert private.post(f"{here}/infer", json=asked(), headers=nobody).status_code == 401


def test_what_nobody_foresaw_has_the_form_of_an_error_too(start: Start, store: Path) -> None:
    client = start({BUNDLE: bundles.save(store, adds_up=True)}).wait_until_ready().client
    assert client.post("/classify", content=picture()).status_code == 200
    answer = client.post(INFER, json=asked())
    assert answer.status_code == 500
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith("internal_error: ")
