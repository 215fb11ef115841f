"""How the program was started: as an attempt of a job, or to run a spec again."""

import argparse
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from bearloop.contract.runs import RunSpec
from bearloop.store import open_store
from trainer.mailbox import Mailbox, parse_spec
from trainer.settings import read_settings, torchrun_name


def open_attempt(arguments: Sequence[str] | None) -> tuple[Mailbox, Callable[[], RunSpec]]:
    """Return the attempt's mailbox and what reads its spec; raises SettingsError."""
    parser = argparse.ArgumentParser(prog="trainer", description=__doc__)
    parser.add_argument("--spec", type=Path, help="a run's spec.json, to run again untracked")
    parser.add_argument("--store", help="file:///folder or s3://bucket/prefix, with --spec")
    given = parser.parse_args(arguments)
    if (given.spec is None) != (given.store is None):
        parser.error("--spec and --store go together")
    if given.spec is None:
        settings = read_settings()
        store = open_store(settings.store_url)
        mailbox = Mailbox(store, job=settings.job, attempt=settings.attempt)
        return mailbox, mailbox.read_spec
    # A mailbox of its own: the first run's result and checkpoints stay as they are.
    job = torchrun_name() or f"rerun-{uuid.uuid4().hex}"
    mailbox = Mailbox(open_store(given.store), job=job, attempt=job)
    return mailbox, lambda: _untracked(given.spec, mailbox.job)


def _untracked(path: Path, job: str) -> RunSpec:
    spec = parse_spec(path.read_bytes())
    return spec.model_copy(update={"job": job, "tracking": None})
