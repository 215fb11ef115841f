"""A tiny real bundle: the mean of each colour, and a linear layer over three classes."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from bearloop.bundle import bundle_prefix, save_bundle
from bearloop.contract.bundle import BundleCard, Golden, Provenance
from bearloop.contract.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from bearloop.contract.record import ClassEntry
from bearloop.store import FolderStore

SIZE = 16
CLASSES = (
    ClassEntry(id=70, name="black", position=0),
    ClassEntry(id=3, name="grizzly", position=1),
    ClassEntry(id=12, name="teddy", position=2),
)
# Red speaks for the first class, green for the second, blue for the third.
WEIGHTS = np.array([[1.5, -0.5, 0.25], [-1.0, 2.0, 0.5], [0.25, -0.75, 1.0]], dtype=np.float32)
BIAS = np.array([0.1, -0.2, 0.3], dtype=np.float32)
RED, GREEN, BLUE = (200, 40, 60), (30, 180, 90), (20, 60, 220)


def picture(colour: tuple[int, int, int] = RED, *, side: int = 40, kind: str = "PNG") -> bytes:
    """Return a picture of one colour, so that every resize leaves it as it is."""
    written = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(written, kind)
    return written.getvalue()


def expected(colour: tuple[int, int, int]) -> dict[str, float]:
    """Return the probabilities by class name, worked out without any code of the product."""
    scaled = (np.array(colour) / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    logits = scaled @ WEIGHTS + BIAS
    share = np.exp(logits) / np.exp(logits).sum()
    return {entry.name: float(part) for entry, part in zip(CLASSES, share, strict=True)}


def model_bytes(*, adds_up: bool = False) -> bytes:
    """Return the ONNX model `pixels` float32 [n, 3, 16, 16] -> `logits` float32 [n, 3].

    One that adds up makes one picture of the n: only one at a time is answered as it should be.
    """
    seen = "sum" if adds_up else "pixels"
    nodes = [
        helper.make_node("ReduceSum", ["pixels", "axes"], ["sum"], keepdims=1),
        helper.make_node("GlobalAveragePool", [seen], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Gemm", ["means", "weights", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [
            numpy_helper.from_array(WEIGHTS, "weights"),
            numpy_helper.from_array(BIAS, "bias"),
            numpy_helper.from_array(np.array([0]), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def save(
    folder: Path,
    *,
    golden: Sequence[tuple[int, int, int]] = (RED, GREEN),
    shift: float = 0.0,
    seed: int = 1,
    adds_up: bool = False,
) -> str:
    """Save a bundle into a folder store and return its prefix.

    `shift` moves probability from the first class to the second in what the card says of the
    golden pictures; another `seed` makes another bundle of the same model.
    """
    pictures = [picture(colour) for colour in golden]
    entries = []
    for place, (colour, data) in enumerate(zip(golden, pictures, strict=True)):
        first, second, third = expected(colour).values()
        entries.append(
            Golden(
                file=f"golden/{place}",
                sha256=hashlib.sha256(data).hexdigest(),
                probabilities=(first - shift, second + shift, third),
            )
        )
    model = model_bytes(adds_up=adds_up)
    card = BundleCard(
        model="colours",
        classes=CLASSES,
        preprocess=Preprocess(size=SIZE),
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        golden=tuple(entries),
        provenance=Provenance(
            project="bears", version_digest="v", recipe_digest="r", seed=seed, code_version="0.1"
        ),
    )
    return bundle_prefix(save_bundle(FolderStore(folder), card, onnx=model, golden=pictures))
