"""A job's mailbox in the object store, as the control plane uses it."""

from bearloop.contract.imports import ImportSpec
from bearloop.contract.jobs import Progress, Result, progress_key, result_key, spec_key
from bearloop.contract.runs import RunSpec
from bearloop.store import MissingObjectError, Store


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
        return None if found is None else Progress.model_validate_json(found)

    def keep_log(self, launch: int, text: str) -> None:
        """Keep the end of a launch's log: the cluster forgets it."""
        self.store.put(log_key(self.job, launch), text.encode())

    def log(self, launch: int) -> str | None:
        """Read the kept log of a launch; None when nothing was kept."""
        found = self._read(log_key(self.job, launch))
        return None if found is None else found.decode(errors="replace")

    def _read(self, key: str) -> bytes | None:
        try:
            return self.store.get(key)
        except MissingObjectError:
            return None


def log_key(job: str, launch: int) -> str:
    """Return the key of the kept log of one launch."""
    return f"jobs/{job}/logs/{launch}.txt"
