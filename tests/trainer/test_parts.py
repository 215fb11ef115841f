"""What takes no gradient is computed in parts that fit, found out once, and the run says so."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from bearloop.contract import environment
from bearloop.contract.jobs import Progress, progress_key
from bearloop.contract.recipes import (
    SIDE_ON,
    CacheStage,
    EvaluateStage,
    FeaturesStage,
    Recipe,
)
from bearloop.store import FolderStore
from tests.trainer.runs import model_of, open_run
from tests.trainer.short import Crowded, Holding, short_for_all
from tests.trainer.team import trained
from tests.trainer.versions import pictures, put_version, recipe, resnet, whole
from trainer.checkpoint import FitState
from trainer.errors import InputError
from trainer.fit import fit
from trainer.parts import Parts
from trainer.predict import predict
from trainer.run import Run

CACHE = CacheStage(presize=32)


def small_run(tmp_path: Path, wanted: Recipe, *, job: str = "job-1") -> Run:
    store = FolderStore(tmp_path / "store")
    spec = put_version(store, pictures(train=4, valid=1), recipe=wanted, job=job)
    return open_run(store, spec, folder=tmp_path / "cache")


class TestParts:
    def test_what_was_halved_stays_so_and_is_said_once(self) -> None:
        said: list[str] = []
        parts, model, seen = Parts("evaluation", said.append), Holding(3), torch.arange(10.0)
        for count in (10, 10, 2):
            found = parts.answer(model, seen.__getitem__, count=count)
            assert torch.equal(found, seen[:count] * 2)
        assert model.tried == [10, 5, 3, 3, 3, 1, 3, 3, 3, 1, 2]
        (sentence,) = said
        assert sentence.startswith("out of memory in evaluation with 10 pictures at a time")
        assert sentence.endswith("computed in 3 at a time from here on")

    def test_what_fits_is_answered_whole_and_nothing_is_said(self) -> None:
        said: list[str] = []
        parts, model = Parts("evaluation", said.append), Holding(10)
        parts.answer(model, torch.zeros(10).__getitem__, count=10)
        assert (model.tried, said) == ([10], [])

    def test_memory_that_gets_less_is_said_again(self) -> None:
        said: list[str] = []
        parts = Parts("evaluation", said.append)
        for holds in (4, 2):
            parts.answer(Holding(holds), torch.zeros(8).__getitem__, count=8)
        assert [sentence.split()[6] for sentence in said] == ["8", "4"]

    def test_a_model_that_cannot_answer_one_picture_is_too_large(self) -> None:
        said: list[str] = []
        parts = Parts("validation", said.append)
        with pytest.raises(
            InputError, match=r"not even one picture fits .*\(validation\)"
        ) as caught:
            parts.answer(Holding(0), torch.zeros(4).__getitem__, count=4)
        assert caught.value.problem.code == "out_of_memory"
        assert said == []


class TestRuns:
    def test_validation_finds_it_out_once_for_all_epochs_and_attempts(self, tmp_path: Path) -> None:
        run = small_run(tmp_path, recipe(CACHE, whole(3)))
        model = model_of(run)
        with short_for_all(holds=2, training=False) as tried:
            state = fit(run, model, None)
        assert tried == [3, 2, 1, 2, 1, 2, 1]
        (note,) = state.notes
        assert "out of memory in validation with 3 pictures at a time: computed in 2" in note
        progress = run.mailbox.store.get(progress_key("job-1", "first"))
        assert Progress.model_validate_json(progress).message == note

        gone_on = small_run(tmp_path, run.spec.recipe, job="job-2")
        gone_on.checkpoints.save(model, None, FitState(notes=[note]))
        with short_for_all(holds=2, training=False) as tried:
            state = fit(gone_on, model, gone_on.checkpoints.newest())
        assert tried[:2] == [3, 2]
        assert state.notes == [note]

    def test_the_body_s_pass_finds_it_out_once_for_all_views(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(environment.CACHE, str(tmp_path / "cache"))
        head = whole(1, name="head", frozen_to=-1)
        run = small_run(tmp_path, resnet(CACHE, FeaturesStage(views=2), head))
        model = model_of(run)
        with short_for_all(holds=4, training=False) as tried:
            state = fit(run, model, None)
        # Twelve pictures twice, and the three that are held out.
        assert tried == [8, 4, 4, 4, 4, 4, 4, 3]
        (note,) = state.notes
        assert "out of memory in the body's pass with 8 pictures at a time: computed in 4" in note

    def test_the_report_finds_it_out_once_for_all_that_it_is_made_of(self, tmp_path: Path) -> None:
        run = small_run(tmp_path, recipe(CACHE, whole(1), EvaluateStage(folds=2, tta_views=2)))
        model, said = model_of(run), list[str]()
        with short_for_all(holds=4, training=False) as tried:
            predict(run, model, weights=None, say=said.append)
        # The plain pictures, two views of them, and the judges' answers.
        assert tried[:13] == [8, *[4, 4, 4, 3] * 3]
        assert 1 < max(tried[13:]) <= 4
        (sentence,) = said
        assert "out of memory in evaluation with 8 pictures at a time: computed in 4" in sentence

    def test_so_do_the_features_that_labels_are_judged_by(self, tmp_path: Path) -> None:
        run = small_run(tmp_path, resnet(CACHE, whole(1), EvaluateStage(folds=2, tta_views=0)))
        model, weights = model_of(run), torchvision.models.resnet18().state_dict()
        said: list[str] = []
        with short_for_all(holds=4, training=False) as tried:
            predict(run, model, weights=weights, say=said.append)
        # One picture tells how many features a new model has.
        assert tried == [8, 4, 4, 4, 3, 1, 4, 4, 4, 3]
        assert len(said) == 1

    def test_pictures_are_made_as_many_at_a_time_as_fit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        large, head = CacheStage(presize=40), whole(1, name="head", frozen_to=-1)
        stages = (large, FeaturesStage(views=2), head, EvaluateStage(folds=2, tta_views=2))
        wanted = resnet(*stages, augment=SIDE_ON, precision="fp32")
        found = []
        for holds in (100, 3):
            monkeypatch.setenv(environment.CACHE, str(tmp_path / str(holds)))
            run = small_run(tmp_path / str(holds), wanted)
            model, weights = model_of(run), torchvision.models.resnet18().state_dict()
            said: list[str] = []
            with Crowded(holds=holds):
                state = fit(run, model, None)
                predictions = predict(run, model, weights=weights, say=said.append)
            found.append((state, predictions, said))
        (roomy, expected, nothing), (state, predictions, said) = found
        assert nothing == roomy.notes == []
        assert [note.split(" with")[0] for note in state.notes] == [
            "out of memory in the body's pass"
        ]
        assert len(said) == 1
        assert "in evaluation with 8 pictures at a time: computed in 2" in said[0]
        losses = [point.loss for point in roomy.steps]
        assert [point.loss for point in state.steps] == pytest.approx(losses, rel=1e-3)
        np.testing.assert_allclose(predictions.tta, expected.tta, atol=1e-3)

    @pytest.mark.long
    def test_of_several_processes_the_first_says_what_only_another_ran_out_of_memory_in(
        self, tmp_path: Path
    ) -> None:
        store = FolderStore(tmp_path / "store")
        wanted = recipe(CACHE, whole(1), EvaluateStage(folds=2, tta_views=0))
        put_version(store, pictures(train=4, valid=2), recipe=wanted)
        told = trained(store.url, tmp_path, what="short of room for pictures", count=2)
        for said in told:
            assert [len(said[name]) for name in ("fit", "both", "other")] == [1, 1, 1]
        first = told[0]
        assert "validation with 3 pictures at a time: computed in 2" in first["fit"][0]
        assert "evaluation with 8 pictures at a time: computed in 4" in first["both"][0]
        assert "evaluation with 8 pictures at a time: computed in 2" in first["other"][0]
