"""Make the bucket of the chart's own MinIO, and three users with what each may do.

`make_identities.py HOST:PORT BUCKET FOLDER`; below the folder `root`, `api`, `jobs` and `inference`
hold the files AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as mounted Secrets do. What each may do
is in s3-*.json beside this file, and fits any S3 server. Safe to repeat.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from urllib3.exceptions import HTTPError

LIMIT = 300.0
"""Seconds until MinIO must answer."""
PAUSE = 1.0
IDENTITIES = ("api", "jobs", "inference")


def main() -> None:
    """Make the bucket as root, then the users."""
    server, bucket, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    root = credentials(folder / "root")
    make_bucket(Minio(server, *root, secure=False), bucket)
    admin = MinioAdmin(endpoint=server, credentials=StaticProvider(*root), secure=False)
    for identity in IDENTITIES:
        user, secret = credentials(folder / identity)
        admin.user_add(user, secret)
        admin.policy_add(user, policy=policy_of(identity, bucket))
        attach(admin, user)
        print(f"{user} may do what s3-{identity}.json says")


def policy_of(identity: str, bucket: str) -> dict[str, Any]:
    """Read what the identity may do; the bucket is bearloop's alone, so keys have no prefix."""
    text = Path(__file__).with_name(f"s3-{identity}.json").read_text()
    policy: dict[str, Any] = json.loads(text.replace("BUCKET", bucket).replace("PREFIX", ""))
    return policy


def credentials(folder: Path) -> tuple[str, str]:
    """Read an access key and its secret."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    user, secret = ((folder / name).read_text().strip() for name in names)
    return user, secret


def make_bucket(client: Minio, bucket: str) -> None:
    """Make the bucket where it is missing, as soon as the server answers."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            if not client.bucket_exists(bucket):
                client.make_bucket(bucket)
            return
        except (HTTPError, S3Error) as error:
            if time.monotonic() > deadline:
                sys.exit(f"MinIO did not answer within {LIMIT:.0f} s: {error}")
            time.sleep(PAUSE)


def attach(admin: MinioAdmin, user: str) -> None:
    """Give the user the policy of its name; that it has it already is fine."""
    try:
        admin.attach_policy([user], user=user)
    except MinioAdminException as error:
        if "PolicyChangeAlreadyApplied" not in str(error):
            raise


if __name__ == "__main__":
    main()
