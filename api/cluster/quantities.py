"""Kubernetes' way of writing numbers; pure."""

import re
from typing import Final

SUFFIXES: Final = {
    "m": 1e-3,
    **{name: 1000.0**power for power, name in enumerate(("k", "M", "G", "T", "P"), 1)},
    **{name: 1024.0**power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), 1)},
}


def quantity(text: str) -> float:
    """Read Kubernetes' way of writing numbers: `500m`, `2`, `8Gi`."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(text))
    if match is None or (match[2] and match[2] not in SUFFIXES):
        raise ValueError(f"{text!r} is no quantity: expected one such as `500m`, `2` or `8Gi`")
    return float(match[1]) * SUFFIXES.get(match[2], 1.0)
