"""Return when the database of MLFLOW_BACKEND_STORE_URI lets us in; a Job may still be making it."""

import os
import sys
import time

import psycopg

LIMIT = 600.0
"""Seconds after which the pod says that it failed, and begins anew."""
PAUSE = 1.0


def main() -> None:
    """Look until the deadline, and tell each new reason."""
    # SQLAlchemy's name of the driver is none of PostgreSQL's.
    url = os.environ["MLFLOW_BACKEND_STORE_URI"].replace("postgresql+psycopg://", "postgresql://")
    deadline = time.monotonic() + LIMIT
    told = ""
    while reason := why_not(url):
        if time.monotonic() > deadline:
            sys.exit(f"gave up after {LIMIT:.0f} s: {reason}")
        if reason != told:
            print(f"waiting: {reason}", flush=True)
            told = reason
        time.sleep(PAUSE)


def why_not(url: str) -> str:
    """Say why the database does not let us in; empty when it does."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[0]
    return ""


if __name__ == "__main__":
    main()
