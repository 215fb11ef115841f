"""Return when MLflow's database lets us in; a Job may still be making it.

`wait_for_database.py FILE`; the file holds the address, and is read at each look: whoever mends the
Secret that it comes from need do nothing else.
"""

import sys
from pathlib import Path

from migrations.upgrade import await_database


def main() -> None:
    """Look without end, and say for what."""
    await_database(lambda: Path(sys.argv[1]).read_text().strip(), within=None)


if __name__ == "__main__":
    main()
