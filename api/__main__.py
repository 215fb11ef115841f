"""`python -m api`: the API server."""

import argparse

import uvicorn

from api.app import create_app
from api.settings import settings


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    uvicorn.run(
        create_app(settings()),
        host=given.host,
        port=given.port,
        log_level="warning",
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
