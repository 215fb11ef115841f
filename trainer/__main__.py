"""The training job's story: from the spec to report and bundle.

`python -m trainer` is an attempt of a job, told by its environment where its mailbox is.
`python -m trainer --spec FILE --store URL` runs a spec again outside the platform, untracked.
"""

import logging
import sys
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from bearloop.bundle import bundle_prefix
from bearloop.contract.jobs import ExitCode
from bearloop.contract.runs import RunOutput, RunSpec
from bearloop.curves_file import CURVES_FILE, save_curves
from trainer.allocator import keep_freed_memory
from trainer.attempt import open_attempt
from trainer.cache import open_pixels
from trainer.checkpoint import Checkpoint, Checkpoints, FitState
from trainer.cost import FIT, cost_of, job_seconds
from trainer.data import held_out, load_items, taught
from trainer.device import device_name, make_deterministic
from trainer.errors import InputError, InterruptedRunError
from trainer.export import export_bundle
from trainer.fit import fit, note
from trainer.interruption import Interruption
from trainer.launcher import launch
from trainer.mailbox import Mailbox
from trainer.meter import Meter
from trainer.model import Classifier
from trainer.outcome import finish_tracking
from trainer.precision import check_precision, numbers_of
from trainer.predict import check_stages, new_model, predict
from trainer.ranks import Ranks, joined
from trainer.report import save_reports, summarise
from trainer.run import Run
from trainer.settings import SettingsError, ask_for_determinism, cache_folder, read_rank
from trainer.snapshots import answering
from trainer.tracking import Tracker
from trainer.weights import load_weights

log = logging.getLogger("trainer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one attempt and return its exit code; a crash is an exception.

    A run on several GPUs or nodes is shared by processes, each of which comes here again.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    keep_freed_memory()
    interruption = Interruption()
    interruption.listen()
    mailbox, read_spec = open_attempt(arguments)
    try:
        spec = read_spec()
        if spec.ranks > 1 and read_rank() is None:
            given = sys.argv[1:] if arguments is None else arguments
            return launch(spec, given, name=mailbox.job)
        with joined(spec, mailbox) as ranks:
            meter = Meter(ranks, mailbox)
            with meter.watching():
                output = train(spec, mailbox, interruption, ranks=ranks, meter=meter)
        if output is None:
            return ExitCode.done
        result = mailbox.finish(output)
    except InputError as error:
        log.error("the input is at fault: %s", error)
        mailbox.refuse(error.problem)
        return ExitCode.input_at_fault
    except InterruptedRunError as error:
        log.warning("%s; the next attempt goes on from the newest checkpoint", error)
        return ExitCode.interrupted
    # Not before the result is there: until then a crash must find them.
    Checkpoints(mailbox.store, spec).clear()
    print(result.model_dump_json(indent=2))
    return ExitCode.done


def train(
    spec: RunSpec,
    mailbox: Mailbox,
    interruption: Interruption,
    *,
    ranks: Ranks,
    meter: Meter,
) -> RunOutput | None:
    """Do the whole run and return what it made; None where another process speaks for all.

    Raises InputError or InterruptedRunError.
    """
    begun = _begin(spec, mailbox, interruption, ranks=ranks, meter=meter)
    run, model, store = begun.run, begun.model, mailbox.store

    with meter.measure(FIT):
        state = fit(run, model, begun.resumed)

    with meter.measure("evaluate"):
        trained = answering(run, model)
        predictions = predict(
            run,
            trained,
            weights=begun.weights,
            curves=state.curves(),
            halvings=state.halvings,
            say=lambda sentence: note(run, state, sentence),
        )
        meter.keep()
        ranks.wait()  # until all have
        if not ranks.leads:
            return None
        curves = state.curves()
        save_curves(store, mailbox.prefix, curves)
        summary = summarise(predictions)
        report_keys = save_reports(store, mailbox.prefix, predictions)

    with meter.measure("export"):
        mailbox.progress("export", 0)
        bundle = export_bundle(store, spec, trained, pixels=run.evaluation, predictions=predictions)
        used = meter.used_by_all()
        cost = cost_of(used, state)
        mlflow_model = finish_tracking(
            run,
            curves=curves,
            predictions=predictions,
            summary=summary,
            report_keys=report_keys,
            bundle=bundle,
            seconds=job_seconds(used),
            cost=cost,
        )

    return RunOutput(
        device=device_name(run.device),
        seconds=job_seconds(meter.used_by_all()),
        summary=summary,
        report_keys=report_keys,
        curves_key=mailbox.prefix + CURVES_FILE,
        bundle_digest=bundle.digest,
        bundle_prefix=bundle_prefix(bundle.digest),
        mlflow_model=mlflow_model,
        cost=cost,
    )


class _Begun(NamedTuple):
    """A run that may be trained."""

    run: Run
    model: Classifier
    weights: dict[str, Tensor] | None
    """What the body began as; None: nothing."""
    resumed: Checkpoint | None


def _begin(
    spec: RunSpec,
    mailbox: Mailbox,
    interruption: Interruption,
    *,
    ranks: Ranks,
    meter: Meter,
) -> _Begun:
    """Read and decode what the run needs; what cannot run is refused before that."""
    store, device = mailbox.store, ranks.device
    if not ranks.leads:
        mailbox = mailbox.silent()
    tracker = Tracker(spec if ranks.leads else spec.model_copy(update={"tracking": None}))
    ask_for_determinism()
    make_deterministic()
    cache, _ = check_stages(spec.recipe)
    check_precision(spec, ranks)
    items = load_items(store, spec)
    apart = held_out(items, spec.recipe)
    ranks.check_batches(
        spec,
        pictures=len(taught(items, spec.recipe)[0]),
        valid=None if apart is None else len(apart[0]),
    )
    weights = load_weights(spec.recipe)
    model = new_model(spec, device, weights=weights)
    checkpoints = Checkpoints(store, spec)
    resumed = checkpoints.newest()
    state = FitState() if resumed is None else resumed.state
    if resumed is not None:
        log.info("goes on from a checkpoint: stage %d, epoch %d", state.stage + 1, state.epoch)
    tracker.start(
        device=device_name(device),
        precision=numbers_of(spec.recipe.precision, device),
        curves=state.curves(),
    )
    with meter.measure("cache"), ranks.first_of_node_first():
        presized, evaluation = open_pixels(
            store,
            items,
            evaluation=spec.recipe.preprocess,
            presize=cache.presize,
            folder=cache_folder(),
            report=mailbox.counter("cache"),
            sizes=spec.recipe.sizes(),
        )
    run = Run(
        spec=spec,
        items=items,
        presized=presized,
        evaluation=evaluation,
        ranks=ranks,
        mailbox=mailbox,
        checkpoints=checkpoints,
        tracker=tracker,
        interruption=interruption,
    )
    return _Begun(run, model, weights, resumed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SettingsError as error:
        sys.exit(f"trainer: {error}")
