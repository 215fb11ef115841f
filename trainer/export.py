"""The bundle of a trained model: its ONNX file, proved against torch, and golden pictures."""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import Message  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import nn

from bearloop.bundle import golden_file, save_bundle
from bearloop.contract.bundle import BundleCard, Golden, Provenance
from bearloop.contract.runs import RunSpec
from bearloop.preprocess import normalise
from bearloop.store import Store, image_key
from trainer.cache import EvaluationPixels
from trainer.data import Item
from trainer.evaluate import softmax
from trainer.report import Predictions

OPSET: Final = 18
"""The newest that the exporter writes without a version converter in between."""
GOLDEN: Final = 8
"""Pictures in a bundle, at most."""
EXPORT_TOLERANCE: Final = 1e-4
"""Largest difference of a probability between torch and ONNX Runtime, both on the CPU."""
REPORT_TOLERANCE: Final = 1e-3
"""Largest difference between the report, which a GPU may have made, and ONNX Runtime."""
INPUT: Final = "pixels"
OUTPUT: Final = "logits"


class ExportError(Exception):
    """The ONNX file does not predict what the trained model predicts."""


class Exported(NamedTuple):
    """A saved bundle."""

    digest: str
    onnx: bytes


def export_bundle(
    store: Store,
    spec: RunSpec,
    model: nn.Module,
    *,
    pixels: EvaluationPixels,
    predictions: Predictions,
) -> Exported:
    """Save the model's bundle and return it; raises ExportError. Equal runs give equal digests."""
    places = golden_places(predictions.items)
    inputs = normalise(pixels.gather(places), spec.recipe.preprocess)
    data = to_onnx(model, size=spec.recipe.preprocess.size)
    check_onnx(data, model, inputs=inputs, reported=predictions.probabilities[places])
    pictures = [store.get(image_key(predictions.items[place].sha256)) for place in places]
    card = BundleCard(
        model=spec.recipe.model,
        classes=spec.classes,
        preprocess=spec.recipe.preprocess,
        onnx_sha256=hashlib.sha256(data).hexdigest(),
        input_name=INPUT,
        output_name=OUTPUT,
        golden=_golden(predictions, places),
        provenance=Provenance(
            project=spec.project,
            version_digest=spec.version_digest,
            recipe_digest=spec.recipe.digest(),
            seed=spec.seed,
            code_version=spec.code_version,
        ),
    )
    return Exported(save_bundle(store, card, onnx=data, golden=pictures), data)


def golden_places(items: Sequence[Item], count: int = GOLDEN) -> list[int]:
    """Choose labelled pictures, one of each class first, the valid split first; never test."""
    queues: dict[int, list[int]] = {}
    order = sorted(range(len(items)), key=lambda i: (items[i].split != "valid", items[i].sha256))
    for place in order:
        label = items[place].label
        if label is not None and items[place].split != "test":
            queues.setdefault(label, []).append(place)
    longest = max(map(len, queues.values()), default=0)
    rounds = [
        queues[label][turn]
        for turn in range(min(longest, count))
        for label in sorted(queues)
        if turn < len(queues[label])
    ]
    return rounds[:count]


def to_onnx(model: nn.Module, *, size: int) -> bytes:
    """Convert to one ONNX file: fp32, any batch, no trace of when and where it was made."""
    exported = torch.onnx.export(
        _on_cpu(model),
        # Two pictures: the exporter would take a batch of one for a constant.
        (torch.zeros(2, 3, size, size),),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("n", min=1, max=2**16)},),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )
    if exported is None:
        raise ExportError("torch.onnx.export returned nothing")
    proto = exported.model_proto
    _strip(proto)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def check_onnx(
    data: bytes,
    model: nn.Module,
    *,
    inputs: NDArray[np.float32],
    reported: NDArray[np.floating],
) -> None:
    """Raise ExportError unless ONNX Runtime agrees with torch and with the report.

    `inputs` are real pictures, float32 [n, 3, size, size]; batches of one and of three are tried.
    """
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    reference = _on_cpu(model)
    with torch.inference_mode():
        expected = softmax(reference(torch.from_numpy(inputs)).numpy())
    for size in (1, 3):
        # A picture is repeated when there are fewer than three.
        places = np.resize(np.arange(len(inputs)), max(size, len(inputs)) // size * size)
        for batch in places.reshape(-1, size):
            found = softmax(session.run([OUTPUT], {INPUT: inputs[batch]})[0])
            _check_close(found, expected[batch], limit=EXPORT_TOLERANCE, whose="torch's")
            _check_close(found, reported[batch], limit=REPORT_TOLERANCE, whose="the report's")


def _on_cpu(model: nn.Module) -> nn.Module:
    copied = copy.deepcopy(model).to(torch.device("cpu"), torch.float32)
    copied.to(memory_format=torch.contiguous_format)
    copied.eval()
    return copied


def _strip(message: Message) -> None:
    """Remove metadata and documentation, in which the exporter writes stack traces and paths."""
    for part in _below(message):
        for field in ("metadata_props", "doc_string"):
            if field in part.DESCRIPTOR.fields_by_name:
                part.ClearField(field)


def _below(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else [value]:
            yield from _below(part)


def _check_close(
    found: NDArray[np.floating], expected: NDArray[np.floating], *, limit: float, whose: str
) -> None:
    difference = float(np.abs(found - expected).max())
    if not difference < limit:
        raise ExportError(
            f"ONNX Runtime's probabilities differ from {whose} by {difference:.2g}, "
            f"more than {limit:g}"
        )


def _golden(predictions: Predictions, places: Sequence[int]) -> tuple[Golden, ...]:
    return tuple(
        Golden(
            file=golden_file(n),
            sha256=predictions.items[place].sha256,
            probabilities=tuple(float(p) for p in predictions.probabilities[place]),
        )
        for n, place in enumerate(places)
    )
