"""Puts an import into its mailbox, runs the job, and reads what it answers."""

import io
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from bearloop.contract import environment
from bearloop.contract.imports import ImportSpec, LedgerLine, Limits, Source, ZipSource
from bearloop.contract.jobs import ExitCode, Problem, Result, result_key, spec_key
from bearloop.ledger_file import read_ledger
from bearloop.store import Store
from importer.__main__ import run_job
from importer.fingerprints import sha256_of
from importer.settings import Settings


class Job:
    """One import job of one store."""

    def __init__(self, store: Store, source: Source, **fields: Any) -> None:
        self.store = store
        self.id = uuid4().hex
        self.attempts = 0
        self.spec = ImportSpec(job=self.id, project="p", dataset="bears", source=source, **fields)
        store.put(spec_key(self.id), self.spec.canonical())

    def run(self, *, prefixes: tuple[str, ...] | None = None) -> ExitCode:
        """Run one attempt in this process; its decoders are processes as ever."""
        self.attempts += 1
        settings = Settings(
            store_url=self.store.url,
            job=self.id,
            attempt=f"attempt-{self.attempts}",
            source_prefixes=prefixes,
        )
        return run_job(settings)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start one attempt as the program that it is."""
        self.attempts += 1
        variables = {
            **os.environ,
            environment.STORE_URL: self.store.url,
            environment.JOB: self.id,
            environment.ATTEMPT: f"attempt-{self.attempts}",
        }
        return subprocess.Popen([sys.executable, "-m", "importer"], env=variables)

    def result(self) -> Result:
        return Result.model_validate_json(self.store.get(result_key(self.id)))

    def ledger(self) -> list[LedgerLine]:
        output = self.result().output
        assert output is not None
        assert output.kind == "import"
        return read_ledger(self.store.get(output.ledger_key))

    def problem(self) -> Problem:
        result = self.result()
        assert result.outcome == "input_at_fault"
        assert result.problem is not None
        assert result.output is None
        return result.problem


def imported(store: Store, source: Source, **fields: Any) -> list[LedgerLine]:
    """Run an import that must end well; return its ledger."""
    job = Job(store, source, **fields)
    assert job.run() == ExitCode.done
    return job.ledger()


def refused(store: Store, source: Source, **fields: Any) -> Problem:
    """Run an import whose source must be at fault; return why."""
    prefixes = fields.pop("prefixes", None)
    job = Job(store, source, **fields)
    assert job.run(prefixes=prefixes) == ExitCode.input_at_fault
    return job.problem()


def uploaded(store: Store, data: bytes) -> str:
    digest = sha256_of(data)
    store.put(f"uploads/{digest}", data)
    return digest


def zipped(files: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zipped_link(name: str, target: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    info.comment = target.encode()
    return info


def zip_source(store: Store, files: Mapping[str, bytes], **fields: Any) -> ZipSource:
    return ZipSource(upload=uploaded(store, zipped(files)), **fields)


def write_files(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def summary(lines: list[LedgerLine]) -> dict[str, str]:
    """Location to what became of it: `class`, `split/class`, or the code of the refusal."""
    return {
        line.location: line.code
        or (f"{line.split}/{line.class_name}" if line.split else str(line.class_name))
        for line in lines
    }


SMALL = Limits(max_bytes=200_000, max_pixels=1_000_000, timeout=5)
