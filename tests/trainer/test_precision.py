"""What a run computes in, where its recipe leaves that to the processor."""

from pathlib import Path

import pytest
import torch

from bearloop.contract.recipes import CacheStage, Precision
from bearloop.store import FolderStore
from tests.trainer.test_fit import curve, fitted, small_run
from tests.trainer.versions import pictures, put_version, recipe, whole
from trainer.errors import InputError
from trainer.precision import check_precision, fastest, numbers_of
from trainer.ranks import Ranks

CPU = torch.device("cpu")


class Mixed(Ranks):
    """A process beside one whose processor says the other thing."""

    def any(self, asked: bool) -> bool:
        """Say what all hear when the two are asked."""
        return True


@pytest.mark.parametrize(
    ("kind", "has_bf16", "expected"),
    [
        ("cpu", True, "bf16"),
        ("cpu", False, "fp32"),
        ("cuda", True, "bf16"),
        ("cuda", False, "fp16"),
    ],
)
def test_the_fastest_numbers_are_those_with_instructions_of_their_own(
    kind: str, has_bf16: bool, expected: str
) -> None:
    assert fastest(kind, has_bf16=has_bf16) == expected


@pytest.mark.parametrize("asked", ["bf16", "fp32"])
def test_what_was_asked_for_is_what_is_computed_in(asked: Precision) -> None:
    assert numbers_of(asked, CPU) == asked


def test_a_recipe_that_leaves_it_open_trains_as_one_that_names_it(tmp_path: Path) -> None:
    assert recipe(precision="auto").precision == "auto"
    named = numbers_of("auto", CPU)
    stages = (CacheStage(presize=32), whole(1))
    _, opened = fitted(small_run(tmp_path, recipe(*stages, precision="auto")))
    _, state = fitted(small_run(tmp_path, recipe(*stages, precision=named), job="job-2"))
    assert curve(opened) == curve(state)


def test_a_team_that_would_compute_in_different_numbers_is_refused(tmp_path: Path) -> None:
    made = recipe(precision="auto")
    spec = put_version(FolderStore(tmp_path), pictures(train=1, valid=1), recipe=made)
    with pytest.raises(InputError, match="some do not") as caught:
        check_precision(spec, Mixed(CPU))
    problem = caught.value.problem
    assert (problem.code, problem.field, problem.value) == (
        "different_processors", "recipe.precision", "auto",
    )  # fmt: skip
