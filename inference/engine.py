"""The model itself: ONNX Runtime on the CPU, proved against the bundle's golden pictures."""

from threading import BoundedSemaphore
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bearloop.bundle import Bundle
from bearloop.contract.record import ClassEntry
from bearloop.preprocess import MAX_PIXELS, normalise, preprocess, read_picture, to_pixels

TOLERANCE = 1e-3
"""Largest difference of a probability; fp32 on other CPUs differs by about 1e-6."""

THREADS_PER_RUN = 4
"""All threads serve one run: with two, a picture takes half the time at 4 % more CPU, and two runs
that compete for them come to less together (resnet18: 97 a second one by one, 60 side by side).
Above this number a small model no longer gains, and runs go side by side."""


class UnfitModelError(Exception):
    """The bundle's model does not do what its card says: what was expected, what was found."""


class Prediction(NamedTuple):
    """One class and the probability that the picture shows it."""

    entry: ClassEntry
    probability: float


class Engine:
    """One bundle, ready to run; safe to call from several threads."""

    def __init__(self, bundle: Bundle, *, max_pixels: int = MAX_PIXELS, threads: int = 1) -> None:
        self.digest = bundle.digest
        self.card = bundle.card
        self.classes = _in_order(bundle.card.classes)
        self.max_pixels = max_pixels
        self._session = _session(bundle.onnx, threads)
        self._runs = BoundedSemaphore(max(1, threads // THREADS_PER_RUN))
        _check_names(self)

    @property
    def inputs(self) -> list[str]:
        """Names of the model's inputs."""
        return [entry.name for entry in self._session.get_inputs()]

    @property
    def outputs(self) -> list[str]:
        """Names of the model's outputs."""
        return [entry.name for entry in self._session.get_outputs()]

    def classify(self, data: bytes) -> list[Prediction]:
        """Predict original bytes, the likeliest class first; raises PictureError."""
        picture = read_picture(data, max_pixels=self.max_pixels)
        pixels = normalise(to_pixels(picture, self.card.preprocess), self.card.preprocess)
        found = probabilities(self.logits(pixels[np.newaxis]))[0]
        # A stable sort of the negative: equal probabilities keep the training's order.
        order = np.argsort(-found, kind="stable")
        return [Prediction(self.classes[place], float(found[place])) for place in order]

    def logits(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model: normalised float32 [n, 3, size, size] to float32 [n, classes]."""
        card = self.card
        with self._runs:
            answer = self._session.run([card.output_name], {card.input_name: pixels})[0]
        if answer.shape != (len(pixels), len(self.classes)):
            raise UnfitModelError(
                f"the model answers {answer.shape} to {len(pixels)} pictures, "
                f"the card has {len(self.classes)} classes"
            )
        return np.asarray(answer, dtype=np.float32)


def check_golden(engine: Engine, bundle: Bundle) -> None:
    """Predict every golden picture as the trainer did; raises UnfitModelError at the first other.

    A bundle without golden pictures proves nothing, and is refused too.
    """
    if not bundle.golden:
        raise UnfitModelError("the bundle has no golden pictures: nothing shows that it is right")
    for entry, data in zip(bundle.card.golden, bundle.golden, strict=True):
        pixels = preprocess(data, bundle.card.preprocess)
        found = probabilities(engine.logits(pixels[np.newaxis]))[0]
        difference = float(np.abs(found - np.asarray(entry.probabilities)).max())
        # Not `difference > TOLERANCE`, which a NaN would pass.
        if not difference <= TOLERANCE:
            raise UnfitModelError(
                f"{entry.file}: a probability differs by {difference:.6f} from the trainer's, "
                f"at most {TOLERANCE} is allowed; export the model again"
            )


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the softmax over the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def _session(onnx: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait would burn the CPU limit of everybody else in it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError) as error:
        raise UnfitModelError(f"ONNX Runtime does not load the model: {error}") from error


def _in_order(classes: tuple[ClassEntry, ...]) -> tuple[ClassEntry, ...]:
    ordered = tuple(sorted(classes, key=lambda entry: entry.position))
    if not ordered or [entry.position for entry in ordered] != list(range(len(ordered))):
        raise UnfitModelError("the card's class positions are not 0, 1, 2 …")
    return ordered


def _check_names(engine: Engine) -> None:
    card = engine.card
    if card.input_name not in engine.inputs or card.output_name not in engine.outputs:
        raise UnfitModelError(
            f"the card names {card.input_name} -> {card.output_name}, "
            f"the model has {engine.inputs} -> {engine.outputs}"
        )
