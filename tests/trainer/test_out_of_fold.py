"""No image is judged by a model that saw its label."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray

from bearloop.contract.recipes import CacheStage, EvaluateStage, LrFindStage, OneCycle
from bearloop.contract.runs import NO_CURVES, LrFind
from bearloop.intervals import wilson
from bearloop.store import FolderStore
from tests.trainer.runs import open_run
from tests.trainer.short import short_for_all
from tests.trainer.versions import pictures, put_version, recipe, resnet, whole
from trainer.data import Item
from trainer.errors import InputError
from trainer.heads import head_judge
from trainer.out_of_fold import out_of_fold, parts
from trainer.predict import new_model, predict

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def item(number: int, *, split: str = "train", label: int | None = 0, fold: int = 0) -> Item:
    sha = hashlib.sha256(str(number).encode()).hexdigest()
    return Item(sha256=sha, label=label, split=split, group=sha, fold=fold)  # type: ignore[arg-type]


def many(n: int, *, classes: int, seed: int = 0) -> list[Item]:
    rng = np.random.default_rng(seed)
    splits = rng.choice(["train", "valid", "test"], n, p=[0.7, 0.2, 0.1])
    return [
        item(
            k,
            split=str(splits[k]),
            label=None if k % 25 == 7 else int(rng.integers(classes)),
            fold=int(rng.integers(60)),
        )
        for k in range(n)
    ]


@pytest.mark.parametrize("folds", [2, 5, 6])
def test_every_image_is_judged_once_and_never_by_its_own_fold(folds: int) -> None:
    items = many(500, classes=4)
    found = parts(items, folds)
    judged = np.concatenate([part.judged for part in found])
    assert sorted(judged) == list(range(len(items)))
    for part in found:
        taught = [items[place] for place in part.taught]
        assert all(entry.label is not None and entry.split != "test" for entry in taught)
        assert not {items[place].group for place in part.judged} & {e.group for e in taught}
        asked = {items[place].fold % folds for place in part.judged}
        if items[part.judged[0]].split != "test":
            assert asked.isdisjoint(entry.fold % folds for entry in taught)
    assert len(found[-1].taught) == sum(i.label is not None and i.split != "test" for i in items)


def test_near_duplicates_in_two_folds_are_refused() -> None:
    twins = [item(1, fold=3), Item("b" * 64, 1, "train", item(1).group, fold=4)]
    with pytest.raises(InputError, match="folds must follow groups"):
        parts(twins, 5)


def test_shuffled_labels_are_predicted_by_chance() -> None:
    classes, n = 4, 600
    items = many(n, classes=classes, seed=1)
    # Few pictures for each feature: a model that saw the labels would know every one by heart.
    features = np.random.default_rng(2).normal(size=(n, 400)).astype(np.float32)
    labels = [entry.label for entry in items]
    judge = head_judge(features, labels, classes=classes, device=CPU, penalty=1e-3)
    p = out_of_fold(items, judge, classes=classes, folds=5)
    known = [k for k in range(n) if labels[k] is not None]
    right = sum(int(p[k].argmax()) == labels[k] for k in known)
    accuracy = wilson(right, len(known))
    assert accuracy.low < 1 / classes < accuracy.high
    seen = judge(np.array(known), np.array(known))
    assert (seen.argmax(axis=1) == [labels[k] for k in known]).mean() > 0.9


def test_learnable_labels_are_found_out_of_fold_and_conflicts_are_predicted() -> None:
    items = many(400, classes=3, seed=3)
    truth = np.array([k % 3 if e.label is None else e.label for k, e in enumerate(items)])
    features = (4 * np.eye(8)[truth] + np.random.default_rng(0).normal(size=(400, 8))).astype("f4")
    judge = head_judge(features, [e.label for e in items], classes=3, device=CPU)
    p = out_of_fold(items, judge, classes=3, folds=5)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (p.argmax(axis=1) == truth).mean() > 0.9


def test_one_label_elsewhere_says_nothing_about_a_fold() -> None:
    items = [item(k, label=k % 2, fold=5) for k in range(6)] + [item(6, label=0, fold=1)]

    def judge(taught: NDArray[np.int64], judged: NDArray[np.int64]) -> NDArray[np.floating]:
        assert len(taught) > 1, "BatchNorm cannot train on one picture"
        return np.full((len(judged), 2), 0.25)

    judged = out_of_fold(items, judge, classes=2, folds=5)
    assert (judged[:6] == 0.5).all()
    assert (judged[6] == 0.25).all()


def test_labels_of_one_fold_only_say_nothing_about_it() -> None:
    items = [item(k, label=k % 2, fold=5) for k in range(6)]
    judge = head_judge(np.eye(6, dtype="f4"), [k % 2 for k in range(6)], classes=2, device=CPU)
    assert (out_of_fold(items, judge, classes=2, folds=5) == 0.5).all()


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_runs_report_is_judged_alike_twice_by_bodies_as_they_were(
    tmp_path: Path, pretrained: bool
) -> None:
    store = FolderStore(tmp_path / "store")
    made = resnet(CacheStage(presize=32), whole(3), EvaluateStage(folds=2, tta_views=0))
    spec = put_version(store, pictures(train=6, valid=2), recipe=made)
    run = open_run(store, spec, folder=tmp_path / "cache")
    weights = None
    if pretrained:
        torch.manual_seed(1)
        weights = torchvision.models.resnet18(weights=None).state_dict()
    model = new_model(spec, CPU, weights=weights)
    first = predict(run, model, weights=weights).out_of_fold
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)  # what a run does to its body must not show
    again = predict(run, model, weights=weights).out_of_fold
    np.testing.assert_array_equal(first, again)
    assert first.shape == (24, 3)
    np.testing.assert_allclose(first.sum(axis=1), 1, atol=1e-5)
    if pretrained:
        labels = [entry.label for entry in run.items]
        # Even random features tell red from green from blue, by the labels of other pictures.
        assert (first.argmax(axis=1) == labels).mean() > 0.8


def test_a_judge_that_diverges_leaves_a_guess_and_the_run_says_so(tmp_path: Path) -> None:
    found = LrFind(
        stage="whole",
        points=(),
        end="finished",
        suggestions={},
        no_suggestion=None,
        reason=None,
        disagreement=None,
        lr=1e30,
    )
    stage = whole(2, lr="auto", schedule=OneCycle())
    made = recipe(
        CacheStage(presize=32), LrFindStage(), stage, EvaluateStage(folds=2, tta_views=0)
    )  # fmt: skip
    run = open_run(
        FolderStore(tmp_path),
        put_version(FolderStore(tmp_path), pictures(train=4, valid=1), recipe=made),
        folder=tmp_path / "cache",
    )
    model = new_model(run.spec, CPU, weights=None)
    said: list[str] = []
    curves = NO_CURVES.model_copy(update={"lr_finds": (found,)})
    judged = predict(run, model, weights=None, curves=curves, say=said.append).out_of_fold
    assert (judged == np.float32(1 / 3)).all()
    (sentence,) = said
    assert sentence.startswith("15 labels could not be judged")


def test_judges_halve_their_batches_once_for_all_of_them(tmp_path: Path) -> None:
    made = recipe(CacheStage(presize=32), whole(1), EvaluateStage(folds=2, tta_views=0))
    spec = put_version(FolderStore(tmp_path), pictures(train=6, valid=2), recipe=made)
    run = open_run(FolderStore(tmp_path), spec, folder=tmp_path / "cache")
    model = new_model(run.spec, CPU, weights=None)
    said: list[str] = []
    with short_for_all(holds=3, training=True) as tried:
        predict(run, model, weights=None, halvings=1, say=said.append)
    # Half a batch is four pictures: no model tries so many again after the first that did.
    assert [count for count in tried if count > 3] == [4]
    assert tried[-1] <= 3
    (sentence,) = said
    assert sentence.startswith("while labels were judged: out of memory at step ")
    assert "with 4 pictures" in sentence


def test_test_images_may_be_judged_by_the_run_which_never_learned_from_them() -> None:
    items = many(200, classes=4)
    own = np.full((200, 4), 0.25, dtype=np.float32)
    asked: list[NDArray[np.int64]] = []

    def judge(taught: NDArray[np.int64], judged: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.append(judged)
        return np.tile(np.float32([1, 0, 0, 0]), (len(judged), 1))

    found = out_of_fold(items, judge, classes=4, folds=3, own=own)
    assert len(asked) == 3
    for place, entry in enumerate(items):
        assert found[place, 0] == (0.25 if entry.split == "test" else 1)
