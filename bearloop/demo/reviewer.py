"""The demo's automatic reviewer: it knows the truth, and uses the public API only."""

from collections.abc import Callable
from dataclasses import dataclass

from bearloop.client import Client
from bearloop.client.reviews import Decision
from bearloop.demo.digits import Digits

MOST_SCREENS = 40


@dataclass(frozen=True)
class Reviewed:
    """What the reviewer saw and did."""

    screens: int
    shown: int
    found: int
    """Planted errors among the images shown."""
    relabelled: int


def work_queue(
    client: Client, review: int, digits: Digits, *, show: Callable[[Reviewed], None]
) -> Reviewed:
    """Decide screen by screen, until the review says that it may stop, or 40 screens are done."""
    done = Reviewed(0, 0, 0, 0)
    while done.screens < MOST_SCREENS:
        screen = client.reviews.claim(review)
        if screen.screen is None or client.reviews.progress(review)["advice"]["stop"]:
            break
        decisions = [_judge(image.sha256, image.label, digits) for image in screen.images]
        client.reviews.decide(review, screen.screen, decisions)
        done = Reviewed(
            screens=done.screens + 1,
            shown=done.shown + len(decisions),
            found=done.found + sum(d.sha256 in digits.planted for d in decisions),
            relabelled=done.relabelled + sum(d.verb == "relabel" for d in decisions),
        )
        show(done)
    return done


def _judge(sha256: str, label: str | None, digits: Digits) -> Decision:
    true = digits.truth[sha256]
    return Decision(sha256, "keep") if label == true else Decision(sha256, "relabel", true)
