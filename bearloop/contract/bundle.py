"""The served model's card: what stands beside `model.onnx` in a bundle."""

from bearloop.contract.preprocess import Preprocess
from bearloop.contract.record import ClassEntry, Record


class Provenance(Record):
    """Where the weights come from; nothing here differs between two equal runs."""

    project: str
    version_digest: str
    recipe_digest: str
    seed: int
    code_version: str


class Golden(Record):
    """One stored picture and the probabilities that the trainer saw for it."""

    file: str
    """`golden/<n>`: the original bytes."""
    sha256: str
    probabilities: tuple[float, ...]
    """In class order, sums to 1."""


class BundleCard(Record):
    """`card.json`; its digest is the bundle's, since it names every other file by sha256."""

    format: int = 1
    model: str
    classes: tuple[ClassEntry, ...]
    preprocess: Preprocess
    onnx_sha256: str
    input_name: str = "pixels"
    """float32 [n, 3, size, size], normalised."""
    output_name: str = "logits"
    """float32 [n, classes]; the server applies the softmax."""
    golden: tuple[Golden, ...]
    provenance: Provenance
