"""The server's story: settings, bundle, proof, port, requests, drain."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NoReturn

from bearloop.bundle import Bundle, BundleError, load_bundle
from bearloop.contract.jobs import ExitCode
from bearloop.sigterm import on_sigterm
from bearloop.store import StoreError, open_store
from inference.access import TokenFileError
from inference.app import build_serving
from inference.engine import UnfitModelError
from inference.server import listen, serve
from inference.settings import Settings, SettingsError, read_settings

STORE_WAIT: Final = timedelta(minutes=1)
"""How long a store that is away is waited for: as long as it takes to restart one."""
LONGEST_PAUSE: Final = 5.0
"""Seconds between two looks at it, at most."""

logger = logging.getLogger("inference")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one bundle until SIGTERM; the exit code says whose fault an end before that is."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    on_sigterm(_leave, lost=SystemExit)
    try:
        settings = read_settings()
        bundle = _load(settings)
        parts = build_serving(settings, bundle)
    except (SettingsError, BundleError, UnfitModelError, TokenFileError) as error:
        logger.error("refused to serve: %s", error)
        return ExitCode.input_at_fault
    except StoreError as error:
        # A crash, so that whoever started this hears why there is no server, and tries again.
        logger.error("the store does not answer: %s", error)
        return 1
    try:
        listener = listen(asked.host, asked.port)
    except OSError as error:
        logger.error("port %d of %s: %s", asked.port, asked.host, error.strerror)
        return 1
    logger.info("serving %s on port %d", bundle.digest, asked.port)
    serve(parts, listener, linger=settings.linger)
    logger.info("served the last request")
    return ExitCode.done


def _load(settings: Settings) -> Bundle:
    """Load the bundle, from a store that may be away for a minute; raises StoreError after it."""
    store = open_store(settings.store_url)
    deadline, pause = time.monotonic() + STORE_WAIT.total_seconds(), 0.5
    while True:
        try:
            return load_bundle(store, settings.bundle)
        except StoreError as error:
            if time.monotonic() + pause > deadline:
                raise
            logger.warning("waits for the store: %s", error)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _leave(*_: object) -> NoReturn:
    """End before there is anything to drain; the server's own handler follows this one."""
    sys.exit(ExitCode.done)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    return parser


if __name__ == "__main__":
    sys.exit(main())
