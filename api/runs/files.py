"""A run outside the platform: its specification, to run it again, and where its files lie."""

from shlex import quote

from sqlalchemy.orm import Session

from api.access import Caller
from api.runs.runs import find_run
from api.runs.schemas import RunFiles, RunParts
from bearloop.contract.jobs import spec_key
from bearloop.contract.runs import RunSpec
from bearloop.curves_file import EPOCHS_FILE, STEPS_FILE
from bearloop.store import Store


def read_spec(session: Session, caller: Caller, number: int) -> RunSpec:
    """Return all that the run was told but where it is logged: run again it is not tracked."""
    job = find_run(session, caller, number).job
    return RunSpec.model_validate(job.spec).model_copy(update={"tracking": None})


def find_files(session: Session, caller: Caller, number: int, *, store: Store) -> RunFiles:
    """Say where the run's files lie; those that are not there yet are None."""
    parts = find_run(session, caller, number)
    spec, report = RunSpec.model_validate(parts.job.spec), parts.report
    return RunFiles(
        store=store.url,
        spec=spec_key(spec.job),
        manifest=spec.manifest_key,
        curves=parts.run.curves_key,
        steps=_beside_curves(parts, STEPS_FILE, store=store),
        epochs=_beside_curves(parts, EPOCHS_FILE, store=store),
        report_loss=None if report is None else report.loss_key,
        report_label_issue=None if report is None else report.label_issue_key,
        rerun=f"python -m trainer --spec spec.json --store {quote(store.url)}",
    )


def _beside_curves(parts: RunParts, name: str, *, store: Store) -> str | None:
    curves = parts.run.curves_key
    if curves is None:
        return None
    key = f"{curves.rpartition('/')[0]}/{name}"
    # Runs from before there were tables have none.
    return key if store.exists(key) else None
