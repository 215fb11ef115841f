"""The pages of the documentation that tell the API's callers what they may, and what may fail."""

from inspect import getdoc

from api.permissions import MATRIX, Outside
from api.roles import ORDER, Role
from tests.house.routes import error_classes

OUTSIDE = {
    Outside.anyone: "anyone",
    Outside.subject: "any valid token",
    Outside.platform: "platform token",
}


def permissions_page() -> str:
    """Return the permission matrix: a line per route, a column per role."""
    parts = [
        "# Permissions",
        "",
        "Every route and who may call it; each role may all that those before it may. Without a",
        "valid token the answer is 401 (the review pages go to their sign-in), to who is no member",
        "of the project it is 404, and below the least role 403. The table is",
        "`api/permissions.py`; a test tries every cell. `make docs` writes this page.",
        "",
        f"| Route | {' | '.join(ORDER)} |",
        f"|---|{':-:|' * len(ORDER)}",
    ]
    return "\n".join([*parts, *(_line(route, least) for route, least in MATRIX.items())]) + "\n"


def errors_page() -> str:
    """Return every error that the API may answer with: code, status, title, and when."""
    parts = [
        "# Errors",
        "",
        "Every error is `application/problem+json` (RFC 9457) with `code`, which is stable,",
        "`detail` and, where they help, the `field` and `value` at fault and the `way_out`. A body",
        "or a parameter that is not of the described form is 422 `malformed`, with one entry of",
        "`errors` per field. `make docs` writes this page.",
        "",
        "| Code | Status | Title | When |",
        "|---|---|---|---|",
    ]
    for error in error_classes():
        when = " ".join((getdoc(error) or "").split("\n\n")[0].split())
        parts.append(f"| `{error.code}` | {error.status} | {error.title} | {when} |")
    return "\n".join(parts) + "\n"


def _line(route: str, least: Role | Outside) -> str:
    if isinstance(least, Outside):
        cells = [OUTSIDE[least], *[""] * (len(ORDER) - 1)]
    else:
        cells = ["yes" if role.reaches(least) else "" for role in ORDER]
    return f"| `{route}` | {' | '.join(cells)} |"
