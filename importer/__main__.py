"""The import job's story: spec, source, pictures one by one, ledger, result."""

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bearloop.contract.imports import ImportOutput, ImportSpec
from bearloop.contract.jobs import ExitCode
from bearloop.fetch import Fetcher, FetchLimits
from bearloop.sigterm import on_sigterm
from bearloop.store import Store, open_store
from importer.decoders import Decoders
from importer.download import Download, Reader, Unpacking
from importer.intake import Intake
from importer.ledger import Ledger
from importer.mailbox import Mailbox, Reporter
from importer.opening import Opened, opened
from importer.problems import SourceError
from importer.settings import Settings, read_settings
from importer.shards import Part, Shard


class InterruptedJobError(SystemExit):
    """SIGTERM came; a SystemExit, because asyncio lets no other exception of a signal through."""


def main() -> ExitCode:
    """Run the job that the environment names; what was stored before a death is found again."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    on_sigterm(_interrupted, lost=InterruptedJobError)
    try:
        return run_job(read_settings())
    except InterruptedJobError:
        return ExitCode.interrupted


def run_job(settings: Settings) -> ExitCode:
    """Do one attempt of one job, from its mailbox to its result."""
    store = open_store(settings.store_url)
    shard = Shard(settings.shard, settings.shards)
    mailbox = Mailbox(store, job=settings.job, attempt=settings.attempt, shard=shard)
    ended = mailbox.ended()
    if ended is not None:
        return ended
    try:
        with mailbox.progress() as reporter:
            output = _import(mailbox, store, settings=settings, reporter=reporter)
    except SourceError as error:
        mailbox.refuse(error.problem)
        return ExitCode.input_at_fault
    if output is not None:
        mailbox.finish(output)
    return ExitCode.done


def _import(
    mailbox: Mailbox, store: Store, *, settings: Settings, reporter: Reporter
) -> ImportOutput | None:
    """Take the source, or this pod's share of it; None while other pods have not done theirs."""
    spec, shard = mailbox.spec(), Shard(settings.shard, settings.shards)
    reporter.show("open", done=0)
    with (
        tempfile.TemporaryDirectory(prefix="bearloop-ledger-") as folder,
        opened(spec, store, prefixes=settings.source_prefixes) as source,
    ):
        path, key = Path(folder) / "ledger.parquet", mailbox.key("ledger.parquet")
        own = source._replace(lines=shard.taken(source.lines))
        if shard.count == 1:
            ledger = _take_all(spec, own, store=store, path=path, reporter=reporter)
            store.upload(key, path)
            return ledger.output(key)
        parts = mailbox.parts(source.lines)
        if not parts.has(shard.index):
            part = mailbox.key("part.parquet")
            _take_all(spec, own, store=store, path=path, reporter=reporter)
            store.upload(part, path)
            parts.add(shard.index, Part(ledger_key=part))
        reporter.show("join", done=len(own.lines), total=len(own.lines))
        joined = parts.joined(path)
        if joined is None:
            return None
        store.upload(key, path)
        return joined.output(key)


def _take_all(
    spec: ImportSpec, source: Opened, *, store: Store, path: Path, reporter: Reporter
) -> Ledger:
    with Ledger(path) as ledger:
        asyncio.run(_take(spec, source, store=store, ledger=ledger, reporter=reporter))
    return ledger


async def _take(
    spec: ImportSpec, source: Opened, *, store: Store, ledger: Ledger, reporter: Reporter
) -> None:
    limits = spec.limits
    decoders = Decoders(max_pixels=limits.max_pixels, thumbnail_size=spec.thumbnail_size)
    slots = limits.concurrency if source.files is None else 2 * decoders.count
    fetcher = Fetcher(
        FetchLimits(max_bytes=limits.max_bytes, timeout=limits.timeout),
        allow_private_addresses=spec.allow_private_addresses,
    )
    total = len(source.lines)
    reporter.show("import", done=0, total=total)
    async with fetcher:
        with decoders, _threads(2 * decoders.count + 4) as threads:
            reader = _reader(source, fetcher, threads)
            intake = Intake(reader, decoders=decoders, store=store, threads=threads, slots=slots)
            async for line in intake.take(source.lines):
                ledger.add(line)
                reporter.show("import", done=ledger.lines, total=total)


@contextmanager
def _threads(count: int) -> Iterator[Executor]:
    threads = ThreadPoolExecutor(count, thread_name_prefix="intake")
    try:
        yield threads
    finally:
        # Not waited for: after SIGTERM a thread may hang in a call to the store.
        threads.shutdown(wait=False, cancel_futures=True)


def _reader(source: Opened, fetcher: Fetcher, threads: Executor) -> Reader:
    if source.files is None:
        return Download(fetcher)
    return Unpacking(source.files, threads)


def _interrupted(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    raise InterruptedJobError(ExitCode.interrupted)


if __name__ == "__main__":
    code = main()
    if code == ExitCode.interrupted:
        # Threads that hang in the store would outlast the pod's grace.
        os._exit(code)
    sys.exit(code)
