"""What a reviewer does, in verbs over REST."""

from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import text

from api.database import Database

REVIEW = "/v1/projects/zoo/reviews/1"


def post(client: TestClient, path: str, body: object = None, *, status: int = 200) -> Any:
    """Post below review 1 and return the answer, which has this status."""
    answer = client.post(f"{REVIEW}/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def get(client: TestClient, path: str) -> Any:
    """Get below review 1."""
    answer = client.get(f"{REVIEW}/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def claim(client: TestClient) -> Any:
    """Claim a screen."""
    return post(client, "claim")


def names(screen: Any) -> list[str]:
    """Return the short names of a screen's images."""
    return [bytes.fromhex(i["sha256"]).rstrip(b"\0").decode() for i in screen["images"]]


def decide(client: TestClient, screen: Any, verbs: dict[int, str], *, status: int = 200) -> Any:
    """Say `keep`, `remove`, `unsure` or a class of the images at these places of the screen."""
    decisions = [said(screen["images"][place]["sha256"], verb) for place, verb in verbs.items()]
    return post(
        client, f"screens/{screen['screen']}/decisions", {"decisions": decisions}, status=status
    )


def said(sha256: str, verb: str) -> dict[str, str]:
    """Make one decision; whatever is no other verb is a class to relabel to."""
    if verb in ("keep", "remove", "unsure"):
        return {"sha256": sha256, "verb": verb}
    return {"sha256": sha256, "verb": "relabel", "class": verb}


def decide_all(client: TestClient, verb: str = "keep") -> int:
    """Claim and decide screens until none is left; return how many there were."""
    screens = 0
    while (screen := claim(client))["images"]:
        decide(client, screen, dict.fromkeys(range(len(screen["images"])), verb))
        screens += 1
    return screens


def expire(database: Database) -> None:
    """Let every lease run out, by the database's clock."""
    with database.transaction() as session:
        session.execute(text("update screen set lease_until = now() - interval '1 second'"))
