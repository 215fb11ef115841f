"""One run on two pods agrees with the same run on one."""

from typing import Any

import pytest

from bearloop.client import Client
from bearloop.contract.recipes import NO_AUGMENT, FitStage, Recipe
from tests.cluster.rig import Release, until
from tests.life.pictures import recipe
from tests.life.story import Trained, await_run


def test_two_pods_agree_with_one(release: Release, client: Client, imported: Trained) -> None:
    whole = undrawn(recipe(epochs=2)).model_dump(mode="json")
    asked: dict[str, Any] = {"recipe": whole, "seed": 7, "device": "cpu"}
    version = imported.version.number
    (one,) = client.runs.start(imported.dataset, version, **asked)
    (two,) = client.runs.start(imported.dataset, version, **asked, nodes=2)
    trainers = "app.kubernetes.io/component=trainer"
    most = 0

    def has_ended() -> bool:
        nonlocal most
        most = max(most, len(release.namespace.running(trainers)))
        return client.runs.get(two.number).ended

    until(has_ended, "the run on two pods ends")
    await_run(client, one.number)
    await_run(client, two.number)
    assert most >= 2, "both pods ran at once"
    first, second = (client.runs.report(run.number) for run in (one, two))
    assert {name: figures.images for name, figures in first.splits.items()} == {
        name: figures.images for name, figures in second.splits.items()
    }
    curves = [
        client.connection.get(f"/v1/projects/main/runs/{run.number}/curves") for run in (one, two)
    ]
    losses = [[point["loss"] for point in curve["steps"]] for curve in curves]
    assert len(losses[0]) == len(losses[1]), "as many steps"
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-4)
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def undrawn(recipe: Recipe) -> Recipe:
    """Leave out what each process draws for its own share, at a rate that keeps rounding small."""
    stages = tuple(
        stage.model_copy(update={"lr": 1e-5}) if isinstance(stage, FitStage) else stage
        for stage in recipe.stages
    )
    return recipe.model_copy(update={"augment": NO_AUGMENT, "dropout": 0.0, "stages": stages})
