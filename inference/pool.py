"""A bounded pool of threads with a bounded queue: what does not fit is refused at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from inference.errors import BusyError

Answer = TypeVar("Answer")


class Pool:
    """Runs the slow part of requests; used from one event loop, so a plain counter does."""

    def __init__(self, *, threads: int, queue: int) -> None:
        self.threads = threads
        self.capacity = threads + queue
        self.taken = 0
        """Calls that run or wait."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="classify")

    def check(self) -> None:
        """Raise BusyError if a call would find no room now."""
        if self.taken >= self.capacity:
            raise BusyError(
                f"{self.threads} pictures are in work and {self.capacity - self.threads} wait: "
                "try again in a second, or run more replicas"
            )

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """Run the call in a thread and return what it returns; raises BusyError."""
        self.check()
        self.taken += 1
        loop = asyncio.get_running_loop()
        future = self._executor.submit(call)
        # A client that leaves cancels the wait, not the thread: the place is free when that ends.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the running calls end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        self.taken -= 1
