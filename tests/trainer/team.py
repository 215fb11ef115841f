"""Several processes that train one small run together, started as torchrun would start them.

As a program it is one of them: `python -m tests.trainer.team STORE CACHE WHAT`.
"""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from bearloop.contract.jobs import spec_key
from bearloop.contract.runs import RunSpec
from bearloop.store import open_store
from tests.fixtures.ports import free_port
from tests.trainer.passes import KilledError, at_model, die, models, passes
from tests.trainer.runs import model_of, open_run
from tests.trainer.short import Short, short_for_all
from tests.trainer.test_fit import LeavesAfter
from trainer.cost import FIT
from trainer.data import labelled
from trainer.device import make_deterministic
from trainer.errors import InterruptedRunError
from trainer.fit import fit, fit_stages
from trainer.mailbox import Mailbox
from trainer.meter import Meter
from trainer.model import Classifier, freeze_to
from trainer.predict import predict
from trainer.ranks import Ranks, joined
from trainer.run import Run
from trainer.scratch import scratch_array
from trainer.settings import ask_for_determinism
from trainer.snapshots import answering
from trainer.step import Share, train_step
from trainer.weights import load_weights

DEADLINE: Final = 240
"""Seconds for all of it, on a busy machine."""


def trained(store: str, cache: Path, *, what: str, count: int) -> list[dict[str, Any]]:
    """Let `count` processes do `what`; return what each found, the first one's first."""
    port = free_port()
    processes = []
    for number in range(count):
        told = {
            "RANK": str(number),
            "WORLD_SIZE": str(count),
            "LOCAL_RANK": str(number),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        folder = cache / str(number)
        command = [sys.executable, "-m", "tests.trainer.team", store, str(folder), what]
        processes.append(subprocess.Popen(command, env={**os.environ, **told}))
    try:
        codes = [process.wait(DEADLINE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * count
    files = [cache / str(number) / "found.pt" for number in range(count)]
    return [torch.load(file, map_location="cpu", weights_only=True) for file in files]


def fit_all(run: Run, model: Classifier) -> dict[str, Any]:
    """Train the whole recipe; return losses, valid ones with their intervals, and weights."""
    meter = Meter(run.ranks, run.mailbox)
    with meter.watching(), meter.measure(FIT):
        state = fit(run, model, None)
    run.ranks.wait()
    measured = [
        figure
        for point in state.epochs
        for figure in (point.valid_loss, point.valid_loss_low, point.valid_loss_high)
        if figure is not None
    ]
    return {
        "fit": {one.number: one.fit_seconds for one in meter.used_by_all()},
        "losses": torch.tensor([point.loss for point in state.steps], dtype=torch.float64),
        "valid": torch.tensor(measured, dtype=torch.float64),
        "weights": model.state_dict(),
    }


def fit_in_little_memory(run: Run, model: Classifier) -> dict[str, Any]:
    """Train on where the checkpoint is; the second process's memory holds two pictures."""
    if run.ranks.number == 1:
        Short(model, holds=2)
    state = fit(run, model, run.checkpoints.newest())
    return {
        "steps": len(state.steps), "halvings": state.halvings, "weights": model.state_dict()
    }  # fmt: skip


def fit_twice(run: Run, model: Classifier) -> dict[str, Any]:
    """Train the whole recipe, then again, left after two steps; return the weights of both."""
    fit(run, model, None)
    run.ranks.wait()
    straight = {name: weight.clone() for name, weight in model.state_dict().items()}
    if run.ranks.leads:
        run.checkpoints.clear()
    with suppress(InterruptedRunError):
        fit(replace(run, interruption=LeavesAfter(1)), model_of(run), None)
    begun, resumed = run.checkpoints.newest(), model_of(run)
    state = fit(run, resumed, begun)
    return {
        "begun": None if begun is None else begun.state.batch,
        "steps": len(state.steps),
        "straight": straight,
        "resumed": resumed.state_dict(),
    }


def fit_all_kinds(run: Run, model: Classifier) -> dict[str, Any]:
    """Train stages of all kinds; return what they found, and what the snapshots answer."""
    state = fit(run, model, None)
    with torch.inference_mode():
        answers = answering(run, model)(torch.zeros(2, 3, 32, 32))
    points = [(point.lr, point.loss) for point in state.lr_finds[0].points]
    return {
        "search": torch.tensor(points, dtype=torch.float64),
        "losses": torch.tensor([point.loss for point in state.steps], dtype=torch.float64),
        "stages": [point.stage for point in state.epochs],
        "kept": state.kept,
        "notes": state.notes,
        "answers": answers,
    }


def predict_all(run: Run, model: Classifier) -> dict[str, Any]:
    """Predict every image by an untrained model."""
    said = predict(run, model, weights=load_weights(run.spec.recipe))
    assert said.tta is not None
    found = {"logits": said.logits, "tta": said.tta, "out_of_fold": said.out_of_fold}
    return {name: torch.from_numpy(np.array(answers)) for name, answers in found.items()}


def predict_and_leave(run: Run, model: Classifier) -> dict[str, Any]:
    """Predict, then again, killed at the second model that judges, and on from there."""
    with passes() as straight:
        known = predict_all(run, model)
    _forget(run)
    with suppress(KilledError), passes(at_model(2, die)) as killed:
        predict_all(run, model)
    run.ranks.wait()
    with passes() as left:
        found = predict_all(run, model)
    counts = [len(models(seen)) for seen in (straight, killed, left)]
    return {"straight": known, "left": found, "models": counts}


def take_gradient(run: Run, model: Classifier, *, plain: bool = False) -> dict[str, Any]:
    """Take one step with a rate of zero on an odd batch; return loss, gradient and statistics.

    `plain`: BatchNorm keeps to what it knows, so that the gradient is a sum over pictures.
    """
    ranks, recipe, stage = run.ranks, run.spec.recipe, fit_stages(run.spec.recipe)[0]
    freeze_to(model, stage.frozen_to)
    ranks.share_statistics(model)
    model.train(not plain)
    rows, labels = labelled(run.items, "train")
    batch = np.arange(len(rows))
    mine = ranks.share(batch)
    recipe = recipe.model_copy(update={"batch_size": len(batch) // recipe.accumulate})
    loss = train_step(
        ranks.learner(model),
        torch.optim.SGD(model.parameters(), lr=0.0),
        pictures=run.presized.gather(rows[mine]),
        labels=labels[mine],
        recipe=recipe,
        stage=stage,
        seed=1,
        step=1,
        share=Share(ranks, len(mine), len(batch)),
    )
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return {"loss": loss, "gradients": gradients, "buffers": dict(model.named_buffers())}


def fit_and_predict_in_little_memory(run: Run, model: Classifier) -> dict[str, Any]:
    """Train and predict, the second process with room for two pictures; return what each says.

    The first one has room for all, but for four in the first of two predictions.
    """
    led, said = run.ranks.leads, dict[str, list[str]]()
    with short_for_all(holds=64 if led else 2, training=False):
        said["fit"] = fit(run, model, None).notes
    for name, room in (("both", 4), ("other", 64)):
        said[name] = []
        _forget(run)
        with short_for_all(holds=room if led else 2, training=False):
            predict(run, model, weights=None, say=said[name].append)
    return said


def gather(ranks: Ranks) -> dict[str, Any]:
    """Join rows, of which the first process has five and the second three, two at a time."""
    own = np.arange(20, dtype=np.float32).reshape(5, 4)[: 5 - 2 * ranks.number] + 100 * ranks.number
    joined = ranks.gathered(own, room=scratch_array, chunk_bytes=2 * own[:1].nbytes)
    return {"joined": torch.from_numpy(joined), "mapped": isinstance(joined, np.memmap)}


def _forget(run: Run) -> None:
    """Remove what was kept, when no process needs it any more."""
    run.ranks.wait()
    if run.ranks.leads:
        run.checkpoints.clear()
    run.ranks.wait()


def _take_part(store_url: str, folder: Path, what: str) -> None:
    store = open_store(store_url)
    spec = RunSpec.model_validate_json(store.get(spec_key("job-1")))
    ask_for_determinism()
    make_deterministic()
    found: dict[str, Any] = {"left": True}
    with (
        suppress(InterruptedRunError),
        joined(spec, Mailbox(store, job="job-1", attempt="a")) as ranks,
    ):
        found = _found(spec, ranks, store_url=store_url, folder=folder, what=what)
    torch.save(found, folder / "found.pt")


def _found(
    spec: RunSpec, ranks: Ranks, *, store_url: str, folder: Path, what: str
) -> dict[str, Any]:
    if what == "gather":
        folder.mkdir(parents=True)
        return gather(ranks)
    run = open_run(open_store(store_url), spec, folder=folder, ranks=ranks)
    model = model_of(run)
    if what == "fit":
        return fit_all(run, model)
    if what == "fit twice":
        return fit_twice(run, model)
    if what == "short":
        return fit_in_little_memory(run, model)
    if what == "short of room for pictures":
        return fit_and_predict_in_little_memory(run, model)
    if what == "all kinds":
        return fit_all_kinds(run, model)
    if what == "predict":
        return predict_all(run, model)
    if what == "predict and leave":
        return predict_and_leave(run, model)
    return take_gradient(run, model, plain=what == "plain gradient")


if __name__ == "__main__":
    _take_part(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
