"""A browser without script: it follows redirects, keeps cookies, and fills in forms."""

from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import urljoin

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

ORIGIN = "http://testserver"


class Form:
    """A form's address and the fields that it would send as it stands."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.fields: dict[str, str] = {}
        self.radios: dict[str, list[str]] = {}
        self.options: dict[str, list[str]] = {}


class Page(HTMLParser):
    """A page as far as the tests look at it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.images: list[dict[str, str]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._select: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag == "form":
            self.forms.append(Form(given["action"]))
        elif tag == "img":
            self.images.append(given)
        elif tag == "input" and "name" in given:
            self._input(given)
        elif tag == "select":
            self._select = given["name"]
            self.forms[-1].fields[self._select] = ""
        elif tag == "option" and self._select:
            self.forms[-1].options.setdefault(self._select, []).append(given["value"])
            if "selected" in given:
                self.forms[-1].fields[self._select] = given["value"]

    def handle_data(self, data: str) -> None:
        self.text += data

    def form(self, end: str) -> Form:
        """Return the form whose address ends so."""
        return next(form for form in self.forms if form.action.endswith(end))

    def _input(self, given: Mapping[str, str]) -> None:
        form = self.forms[-1]
        if given.get("type") == "radio":
            form.radios.setdefault(given["name"], []).append(given["value"])
        if given.get("type") not in ("radio", "checkbox") or "checked" in given:
            form.fields[given["name"]] = given.get("value", "")


class Browser:
    """One person's browser."""

    def __init__(self, app: FastAPI) -> None:
        self.client = TestClient(app, base_url=ORIGIN, raise_server_exceptions=False)
        self.address = ""
        self.answer: Response

    def open(self, path: str) -> Page:
        """Go to an address, wherever it leads."""
        self.answer = self.client.get(path)
        return self._shown()

    def send(self, form: Form, **changes: str) -> Page:
        """Send a form with some fields changed; names are given with `_` for what they begin by."""
        headers = {"Origin": ORIGIN}
        fields = {**form.fields, **changes}
        self.answer = self.client.post(
            urljoin(self.address, form.action), data=fields, headers=headers
        )
        return self._shown()

    def _shown(self) -> Page:
        self.address = str(self.answer.url)
        return Page(self.answer.text)
