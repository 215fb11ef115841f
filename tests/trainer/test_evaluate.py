"""Evaluation is fp32 on the server's pixels, whatever the batch, and leaves the model alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bearloop.contract.preprocess import Preprocess, Resize
from bearloop.contract.recipes import NO_AUGMENT, SIDE_ON, EvaluateStage
from bearloop.preprocess import normalise, preprocess, read_picture
from bearloop.store import FolderStore, image_key
from tests.trainer.versions import pictures, put_version, resnet
from trainer.cache import EvaluationPixels, PresizedPixels, open_pixels
from trainer.data import Item, load_items
from trainer.evaluate import (
    NonFiniteError,
    features,
    log_softmax,
    logits,
    normalised,
    softmax,
    tta_probabilities,
)
from trainer.model import Classifier, build_classifier

CPU = torch.device("cpu")
SPEC = Preprocess(size=32)


class Prepared:
    """A small version with its pixels, and a model of random weights."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.store = FolderStore(folder / "store")
        spec = put_version(self.store, pictures(train=3, valid=1), recipe=resnet())
        self.items: list[Item] = load_items(self.store, spec)
        pixels = open_pixels(
            self.store,
            self.items,
            evaluation=SPEC,
            presize=40,
            folder=folder / "cache",
            report=lambda *_: None,
        )
        self.presized: PresizedPixels = pixels[0]
        self.pixels: EvaluationPixels = pixels[1]
        torch.manual_seed(3)
        self.model: Classifier = build_classifier(resnet(), 3, None).eval()

    def logits(self, indices: range | list[int], *, batch_size: int = 4) -> np.ndarray:
        return logits(
            self.model,
            self.pixels,
            indices,
            device=CPU,
            preprocess=SPEC,
            batch_size=batch_size,
        )

    def tta(self, *, views: int, weight: float, seed: int = 1, plain: bool = False) -> np.ndarray:
        return tta_probabilities(
            self.model,
            self.presized,
            range(len(self.items)),
            plain=softmax(self.logits(range(len(self.items)))),
            changes=NO_AUGMENT if plain else SIDE_ON,
            stage=EvaluateStage(tta_views=views, tta_plain_weight=weight),
            seed=seed,
            device=CPU,
            preprocess=SPEC,
            batch_size=5,
        )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("evaluate"))


def test_the_model_sees_what_the_server_makes_of_the_original_bytes(prepared: Prepared) -> None:
    rows = range(len(prepared.items))
    seen = normalised(prepared.pixels.gather(rows), SPEC, device=CPU).numpy()
    served = np.stack(
        [preprocess(prepared.store.get(image_key(i.sha256)), SPEC) for i in prepared.items]
    )
    np.testing.assert_array_equal(seen, served)


@pytest.mark.parametrize("resize", ["crop", "pad", "squish"])
def test_an_endpoint_makes_of_a_wide_photo_what_validation_saw(
    prepared: Prepared, tmp_path: Path, resize: Resize
) -> None:
    spec = Preprocess(size=24, resize=resize)
    _, pixels = open_pixels(
        prepared.store,
        prepared.items,
        evaluation=spec,
        presize=32,
        folder=tmp_path,
        report=lambda *_: None,
    )
    seen = normalised(pixels.gather([0]), spec, device=CPU).numpy()[0]
    wide = prepared.store.get(image_key(prepared.items[0].sha256))
    assert read_picture(wide).size == (40, 32)
    # What a bundle's card carries, read back.
    carried = Preprocess.model_validate_json(spec.canonical())
    np.testing.assert_array_equal(preprocess(wide, carried), seen)
    others = {"crop", "pad", "squish"} - {resize}
    for other in others:
        wrong = preprocess(wide, carried.model_copy(update={"resize": other}))
        assert np.abs(wrong - seen).max() > 0.1


def test_every_value_of_a_pixel_is_normalised_alike() -> None:
    spec = Preprocess(size=16, mean=(0.1, 0.5, 0.9), std=(0.3, 0.225, 0.11))
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    ours = normalised(pixels, spec, device=CPU).numpy()
    np.testing.assert_array_equal(ours, normalise(pixels, spec))


def test_answers_are_the_models_own_in_the_order_asked(prepared: Prepared) -> None:
    rows = [5, 0, 7]
    with torch.inference_mode():
        inputs = torch.from_numpy(normalise(prepared.pixels.gather(rows), SPEC))
        expected = prepared.model(inputs).numpy()
    np.testing.assert_allclose(prepared.logits(rows), expected, atol=1e-5)
    assert prepared.logits(rows).dtype == np.float32


def test_answers_do_not_depend_on_the_batch(prepared: Prepared) -> None:
    whole = prepared.logits(range(12), batch_size=12)
    np.testing.assert_allclose(prepared.logits(range(12), batch_size=1), whole, atol=1e-4)


def test_evaluating_changes_nothing_of_a_model_in_training(prepared: Prepared) -> None:
    expected = prepared.logits(range(12))
    prepared.model.train()
    before = {key: value.clone() for key, value in prepared.model.state_dict().items()}
    np.testing.assert_array_equal(prepared.logits(range(12)), expected)
    assert prepared.model.training
    assert all(torch.equal(before[k], v) for k, v in prepared.model.state_dict().items())
    prepared.model.eval()


def test_features_are_what_the_head_sees(prepared: Prepared) -> None:
    found = features(
        prepared.model, prepared.pixels, range(12), device=CPU, preprocess=SPEC, batch_size=4
    )
    assert found.shape == (12, prepared.model.feature_width)
    with torch.inference_mode():
        answers = prepared.model.head(torch.from_numpy(found)).numpy()
    np.testing.assert_allclose(answers, prepared.logits(range(12)), atol=1e-5)


def test_progress_counts_the_pictures(prepared: Prepared) -> None:
    told: list[tuple[int, int]] = []
    logits(
        prepared.model,
        prepared.pixels,
        range(10),
        device=CPU,
        preprocess=SPEC,
        batch_size=4,
        report=lambda done, total: told.append((done, total)),
    )
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_augmented_views_are_averaged_with_the_plain_one(prepared: Prepared) -> None:
    plain = softmax(prepared.logits(range(12)))
    np.testing.assert_allclose(prepared.tta(views=2, weight=1.0), plain, atol=1e-6)
    only = prepared.tta(views=3, weight=0.0)
    mixed = prepared.tta(views=3, weight=0.25)
    np.testing.assert_allclose(mixed, 0.25 * plain + 0.75 * only, atol=1e-6)
    np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-5)
    assert np.abs(only - plain).max() > 1e-4


def test_four_views_and_the_plain_one_are_the_lessons_mean_of_five(prepared: Prepared) -> None:
    plain = softmax(prepared.logits(range(12)))
    # One view's answer is the difference that it makes to a sum of so many.
    sums = [views * prepared.tta(views=views, weight=0.0) for views in range(1, 5)]
    single = np.diff([np.zeros_like(plain), *sums], axis=0)
    lesson = EvaluateStage()
    ours = prepared.tta(views=lesson.tta_views, weight=lesson.tta_plain_weight)
    np.testing.assert_allclose(ours, np.mean([plain, *single], axis=0), atol=1e-6)
    assert len(single) == 4


def test_views_are_drawn_from_the_seed(prepared: Prepared) -> None:
    first = prepared.tta(views=2, weight=0.2, seed=1)
    np.testing.assert_array_equal(first, prepared.tta(views=2, weight=0.2, seed=1))
    assert np.abs(first - prepared.tta(views=2, weight=0.2, seed=2)).max() > 1e-5


def test_a_broken_model_is_named_by_the_picture(prepared: Prepared) -> None:
    weight = prepared.model.head[-1].weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="image 3 is not finite"):
        prepared.logits([3, 4])
    with torch.no_grad():
        weight.copy_(kept)


def test_log_probabilities_are_exact_where_probabilities_round() -> None:
    answers = np.array([[1000, 0], [3, 3]], dtype=np.float32)
    np.testing.assert_allclose(log_softmax(answers), [[0, -1000], [-np.log(2)] * 2])
    np.testing.assert_allclose(softmax(answers), [[1, 0], [0.5, 0.5]])
