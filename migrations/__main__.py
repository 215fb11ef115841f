"""`python -m migrations`: migrate as the owner and grant the program's role its rights."""

import os

from migrations.upgrade import upgrade


def main() -> None:
    """Read BEARLOOP_OWNER_URL and BEARLOOP_PROGRAM_ROLE, and upgrade."""
    role = os.environ.get("BEARLOOP_PROGRAM_ROLE", "bearloop")
    upgrade(os.environ["BEARLOOP_OWNER_URL"], program_role=role)


if __name__ == "__main__":
    main()
