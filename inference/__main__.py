"""The server's story: settings, bundle, proof, port, requests, drain."""

import argparse
import logging
import sys
from collections.abc import Sequence

from bearloop.bundle import BundleError, load_bundle
from bearloop.contract.jobs import ExitCode
from bearloop.store import StoreError, open_store
from inference.access import TokenFileError
from inference.app import build_serving
from inference.engine import UnfitModelError
from inference.server import listen, serve
from inference.settings import SettingsError, read_settings

logger = logging.getLogger("inference")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one bundle until SIGTERM; the exit code says whose fault an end before that is."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = read_settings()
        bundle = load_bundle(open_store(settings.store_url), settings.bundle)
        parts = build_serving(settings, bundle)
    except (SettingsError, BundleError, UnfitModelError, TokenFileError) as error:
        logger.error("refused to serve: %s", error)
        return ExitCode.input_at_fault
    except StoreError as error:
        # The store may be back in a moment: a crash, so that whoever started this tries again.
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    return parser


if __name__ == "__main__":
    sys.exit(main())
