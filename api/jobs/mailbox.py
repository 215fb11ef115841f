"""A job's mailbox in the object store, as the control plane uses it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from bearloop.contract.imports import ImportSpec
from bearloop.contract.jobs import (
    Progress,
    Result,
    attempt_prefix,
    attempts_prefix,
    progress_key,
    result_key,
    spec_key,
)
from bearloop.contract.runs import RunSpec
from bearloop.store import MissingObjectError, Store

NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Mailbox:
    """Specification in; progress and the one result out; the log kept beside them."""

    def __init__(self, store: Store, job: str) -> None:
        """Take the project's store and the job's id."""
        self.store = store
        self.job = job

    def put_spec(self, spec: ImportSpec | RunSpec) -> None:
        """Write the specification; the same one again changes nothing."""
        self.store.put(spec_key(self.job), spec.canonical())

    def result(self) -> Result | None:
        """Read the result; None while there is none."""
        found = self._read(result_key(self.job))
        return None if found is None else Result.model_validate_json(found)

    def progress(self, attempt: str) -> Progress | None:
        """Read how far an attempt is; None before it says anything."""
        found = self._read(progress_key(self.job, attempt))
        if found is None:
            return None
        progress = Progress.model_validate_json(found)
        return progress if progress.shards == 1 else summed(self._of_all_shards(progress.shards))

    def place_of(self, file: str, *, newest: str | None) -> str | None:
        """Return the prefix of the attempt that a file is read of; None while none has it.

        That is `newest` where it has the file; until then the one before, which it goes on from.
        """
        own = None if newest is None else attempt_prefix(self.job, newest)
        if own is not None and self.store.exists(own + file):
            return own
        keys = (info.key for info in self.store.list(attempts_prefix(self.job)))
        having = (key.removesuffix(file) for key in keys if key.endswith(f"/{file}"))
        return max(having, key=self._told_at, default=None)

    def keep_logs(self, launch: int, printed: Mapping[str, str]) -> None:
        """Keep what a launch's pods printed, each by its name: the cluster forgets them."""
        for name, text in printed.items():
            if text:
                self.store.put(f"{logs_prefix(self.job, launch)}{name}.txt", text.encode())

    def log(self, launch: int) -> str | None:
        """Read the kept log of a launch, its pods' one after the other; None when none was kept."""
        prefix = logs_prefix(self.job, launch)
        kept = {entry.key: self._read(entry.key) or b"" for entry in self.store.list(prefix)}
        texts = {key: text.decode(errors="replace") for key, text in kept.items()}
        if len(texts) < 2:
            return next(iter(texts.values()), None)
        names = {key: key.removeprefix(prefix).removesuffix(".txt") for key in texts}
        return "\n".join(f"---- {names[key]}\n{text}" for key, text in texts.items())

    def _told_at(self, place: str) -> datetime:
        """Return when the attempt of a prefix last told how far it is."""
        progress = self.progress(place.rstrip("/").rpartition("/")[2])
        return NEVER if progress is None else progress.at

    def _of_all_shards(self, count: int) -> list[Progress]:
        """Return each shard's newest progress, whichever attempt said it."""
        newest: dict[int, Progress] = {}
        for info in self.store.list(attempts_prefix(self.job)):
            found = self._read(info.key) if info.key.endswith("/progress.json") else None
            progress = None if found is None else Progress.model_validate_json(found)
            if progress is None or progress.shards != count:
                continue
            before = newest.get(progress.shard)
            if before is None or before.at < progress.at:
                newest[progress.shard] = progress
        return list(newest.values())

    def _read(self, key: str) -> bytes | None:
        try:
            return self.store.get(key)
        except MissingObjectError:
            return None


def summed(parts: Sequence[Progress]) -> Progress:
    """Add up what the shards of a job say; the total is known once each of them knows its own."""
    latest = max(parts, key=lambda part: part.at)
    totals = [part.total for part in parts if part.total is not None]
    known = len(totals) == latest.shards
    added: Progress = latest.model_copy(
        update={
            "done": sum(part.done for part in parts),
            "total": sum(totals) if known else None,
            "shard": 0,
        }
    )
    return added


def logs_prefix(job: str, launch: int) -> str:
    """Return the prefix of the kept logs of one launch; ends with a slash."""
    return f"jobs/{job}/logs/{launch}/"
