"""The training job's story: from the spec to report and bundle.

`python -m trainer` is an attempt of a job, told by its environment where its mailbox is.
`python -m trainer --spec FILE --store URL` runs a spec again outside the platform, untracked.
"""

import logging
import sys
from collections.abc import Sequence

from bearloop.bundle import bundle_prefix
from bearloop.contract.jobs import ExitCode
from bearloop.contract.runs import RunOutput, RunSpec
from trainer.attempt import open_attempt
from trainer.cache import open_pixels
from trainer.checkpoint import Checkpoints, FitState
from trainer.data import load_items
from trainer.device import choose_device, device_name, make_deterministic
from trainer.errors import InputError, InterruptedRunError
from trainer.export import export_bundle
from trainer.fit import fit
from trainer.interruption import Interruption
from trainer.mailbox import Mailbox
from trainer.outcome import finish_tracking
from trainer.predict import check_stages, new_model, predict
from trainer.report import save_reports, summarise
from trainer.run import Run, Stopwatch
from trainer.settings import SettingsError, ask_for_determinism, cache_folder
from trainer.tracking import Tracker
from trainer.weights import load_weights

log = logging.getLogger("trainer")


def main(arguments: Sequence[str] | None = None) -> ExitCode:
    """Run one attempt and return how it ended; a crash is an exception."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    interruption = Interruption()
    interruption.listen()
    mailbox, read_spec = open_attempt(arguments)
    try:
        spec = read_spec()
        result = mailbox.finish(train(spec, mailbox, interruption))
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


def train(spec: RunSpec, mailbox: Mailbox, interruption: Interruption) -> RunOutput:
    """Do the whole run and return what it made; raises InputError or InterruptedRunError."""
    store, clock, tracker = mailbox.store, Stopwatch(), Tracker(spec)

    # What cannot run is refused before a million pictures are decoded.
    ask_for_determinism()
    make_deterministic()
    device = choose_device(spec)
    cache, _ = check_stages(spec.recipe)
    items = load_items(store, spec)
    weights = load_weights(spec.recipe)
    model = new_model(spec, device, weights=weights)

    checkpoints = Checkpoints(store, spec)
    resumed = checkpoints.newest()
    state = FitState() if resumed is None else resumed.state
    tracker.start(device=device_name(device), curves=state.curves())

    with clock.measure("cache"):
        presized, evaluation = open_pixels(
            store,
            items,
            evaluation=spec.recipe.preprocess,
            presize=cache.presize,
            folder=cache_folder(),
            report=mailbox.counter("cache"),
        )
    run = Run(
        spec=spec,
        items=items,
        presized=presized,
        evaluation=evaluation,
        device=device,
        mailbox=mailbox,
        checkpoints=checkpoints,
        tracker=tracker,
        interruption=interruption,
    )

    with clock.measure("fit"):
        curves = fit(run, model, resumed).curves()
        store.put(mailbox.prefix + "curves.json", curves.canonical())

    with clock.measure("evaluate"):
        predictions = predict(run, model, weights=weights)
        summary = summarise(predictions)
        report_keys = save_reports(store, mailbox.prefix, predictions)

    with clock.measure("export"):
        mailbox.progress("export", 0)
        bundle = export_bundle(store, spec, model, pixels=evaluation, predictions=predictions)
        mlflow_model = finish_tracking(
            run,
            curves=curves,
            predictions=predictions,
            summary=summary,
            report_keys=report_keys,
            bundle=bundle,
        )

    return RunOutput(
        device=device_name(device),
        seconds=clock.seconds,
        summary=summary,
        report_keys=report_keys,
        curves_key=mailbox.prefix + "curves.json",
        bundle_digest=bundle.digest,
        bundle_prefix=bundle_prefix(bundle.digest),
        mlflow_model=mlflow_model,
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SettingsError as error:
        sys.exit(f"trainer: {error}")
