"""`python -m api`: the API server."""

import argparse
from datetime import timedelta

import uvicorn

from api.app import create_app
from api.leaving import LingeringServer
from api.settings import settings


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--linger",
        type=float,
        default=0.0,
        help="seconds after SIGTERM in which requests are still taken: as long as balancers and "
        "kept connections may send some",
    )
    parser.add_argument(
        "--grace", type=int, default=10, help="seconds for open requests to end after that"
    )
    parser.add_argument(
        "--trusted-proxies",
        help="addresses or networks, by comma, or `*`, whose X-Forwarded-* headers count",
    )
    given = parser.parse_args()
    app = create_app(settings())
    config = uvicorn.Config(
        app,
        host=given.host,
        port=given.port,
        log_level="warning",
        timeout_graceful_shutdown=given.grace,
        # None: this machine, or what FORWARDED_ALLOW_IPS says.
        forwarded_allow_ips=given.trusted_proxies,
    )
    linger = timedelta(seconds=given.linger)
    LingeringServer(config, leaving=app.state.leaving, linger=linger).run()


if __name__ == "__main__":
    main()
