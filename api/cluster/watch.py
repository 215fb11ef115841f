"""Watching: threads that hear of each change on the cluster, and wake the worker.

An event only wakes; what is true is read anew. So nothing is lost when a watch breaks, misses
something or starts over: the worker looks by itself at every poll.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from random import uniform
from threading import Event, Lock, Thread

from api.cluster.kubernetes import ClusterError, ExpiredError, KubernetesApi

log = logging.getLogger("worker")

LASTING = timedelta(minutes=5)
"""Of one connection; then it is made anew."""
PAUSE = (1.0, 5.0)
"""Seconds between a broken connection and the next, so that workers do not come all at once."""


class Watch:
    """Names, by label, of what changed since it was last asked."""

    def __init__(
        self,
        api: KubernetesApi,
        *,
        labels: str,
        named_by: Sequence[str],
        pause: tuple[float, float] = PAUSE,
    ) -> None:
        """Watch what has `labels`; a thing is known by the value of a label of `named_by`."""
        self._api = api
        self._labels = labels
        self._named_by = named_by
        self._pause = pause
        self._lock = Lock()
        self._names: set[str] = set()
        self._woken = Event()
        self._ending = Event()
        self._kinds: Sequence[str] = ()
        self._listening: set[str] = set()
        self.changes = 0
        """Counts events and new starts: the same number twice means that nothing was heard."""

    @property
    def listens(self) -> bool:
        """Whether every kind is listened to, as far as one can tell."""
        return bool(self._kinds) and len(self._listening) == len(self._kinds)

    def begin(self, kinds: Sequence[str]) -> None:
        """Watch these kinds from now on, each in a thread of its own."""
        self._kinds = kinds
        for kind in kinds:
            Thread(target=self._follow, args=(kind,), name=f"watch-{kind}", daemon=True).start()

    def wait(self, timeout: timedelta) -> None:
        """Return as soon as something changes, or after `timeout`."""
        self._woken.wait(timeout.total_seconds())
        self._woken.clear()

    def take(self) -> set[str]:
        """Return the names of what changed since the last call."""
        with self._lock:
            taken, self._names = self._names, set()
        return taken

    def wake(self, name: str | None = None) -> None:
        """Say that something changed: the thing of this name, or nobody knows what."""
        with self._lock:
            self.changes += 1
            if name is not None:
                self._names.add(name)
        self._woken.set()

    def end(self) -> None:
        """Let the threads end, at the next event or when their connections end."""
        self._ending.set()

    def _follow(self, kind: str) -> None:
        since: str | None = None
        while not self._ending.is_set():
            try:
                if since is None:
                    since = self._api.version(kind, self._labels)
                    self._listening.add(kind)
                    self.wake()  # what happened before it is to be looked for
                since = self._listen(kind, since)
            except ExpiredError:
                since = None
                self._listening.discard(kind)
            except ClusterError as error:
                log.warning("%s; it goes on by itself", error)
                since = None
                self._listening.discard(kind)
                self._ending.wait(uniform(*self._pause))

    def _listen(self, kind: str, since: str) -> str:
        for event, thing in self._api.watch(kind, self._labels, since=since, lasting=LASTING):
            since = thing["metadata"]["resourceVersion"]
            if event != "BOOKMARK":
                labels = thing["metadata"].get("labels", {})
                names = (labels[label] for label in self._named_by if label in labels)
                self.wake(next(names, None))
            if self._ending.is_set():
                break
        return since
