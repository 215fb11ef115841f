"""The demo, told in the order it happens."""

import tempfile
import webbrowser
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bearloop.cli.login import read_login
from bearloop.cli.output import said
from bearloop.client import Client
from bearloop.demo import life, own
from bearloop.demo.clock import Clock
from bearloop.environment import read_environment
from bearloop.local import Plan, running, stay_up


@dataclass(frozen=True)
class Asked:
    """What the command line asks of the demo."""

    folder: Path | None
    """Where the data lie; None: a temporary folder, but the usual one for the user's own."""
    data: Path | None
    """The user's own class folders; None: the digits."""
    weights: str | None
    model: str | None
    """A torchvision classifier that the weights fit; None: the recipe's."""
    stay: bool
    """Stay up until Ctrl-C."""

    @property
    def training(self) -> dict[str, str]:
        """What the runs change of their recipe."""
        given = {"model": self.model, "weights": self.weights}
        return {name: value for name, value in given.items() if value is not None}


def tell(asked: Asked, *, port: int, tracking_port: int) -> None:
    """Run the platform and the life on it."""
    clock = Clock()
    with ExitStack() as stack:
        plan = Plan(_folder(asked, stack).absolute(), port, tracking_port, say=_say)
        with clock.step("start the platform"):
            platform = stack.enter_context(running(plan))
        login = read_login(plan.login_file)
        client = Client(login.url, login.token, project=login.project)
        stack.callback(client.close)
        if asked.data:
            # Where there is no browser, `open` does nothing; the address is printed.
            here = own.Here(plan, revive=platform.revive, open_page=webbrowser.open)
            own.tell(client, asked.data, training=asked.training, here=here, clock=clock)
        else:
            life.tell(client, plan=plan, clock=clock, stay=asked.stay)
        if asked.stay:
            said.print("\nup until Ctrl-C", markup=False)
            stay_up(platform)


def _folder(asked: Asked, stack: ExitStack) -> Path:
    if asked.folder:
        return asked.folder
    if asked.data:
        # What a person decides must outlive the demo: `bearloop up` goes on from here.
        return read_environment().folder
    temporary = tempfile.TemporaryDirectory(prefix="bearloop-", ignore_cleanup_errors=True)
    return Path(stack.enter_context(temporary))


def _say(text: str) -> None:
    said.print(text, markup=False)
