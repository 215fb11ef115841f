"""Make the bucket of the chart's own MinIO once it answers, and three users with what each may do.

`make_identities.py HOST:PORT BUCKET FOLDER`; below the folder `root`, `api`, `jobs` and `inference`
hold the files AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as mounted Secrets do. What each may do
is in s3-*.json beside this file, and fits any S3 server. Safe to repeat.
"""

import json
import sys
from pathlib import Path
from typing import Any

from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from urllib3.exceptions import HTTPError

from migrations.patience import await_none

IDENTITIES = ("api", "jobs", "inference")


def main() -> None:
    """Make the bucket as root, then the users."""
    server, bucket, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    await_none(lambda: lack_of_bucket(server, bucket, folder / "root"), within=None)
    root = credentials(folder / "root")
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


def lack_of_bucket(server: str, bucket: str, root: Path) -> str | None:
    """Make the bucket where it is missing; say why it cannot be made just now."""
    client = Minio(server, *credentials(root), secure=False)
    try:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
    except HTTPError:
        return f"MinIO does not answer at {server}"
    except S3Error as error:
        return f"MinIO lets us make no bucket: {error.code}"
    return None


def attach(admin: MinioAdmin, user: str) -> None:
    """Give the user the policy of its name; that it has it already is fine."""
    try:
        admin.attach_policy([user], user=user)
    except MinioAdminException as error:
        if "PolicyChangeAlreadyApplied" not in str(error):
            raise


if __name__ == "__main__":
    main()
