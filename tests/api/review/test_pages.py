"""The review page as a browser without script sees it."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.access import COOKIE
from api.database import Database
from api.labels import NewEvent, append_events
from api.settings import Settings
from api.tables import Project
from bearloop.store import FolderStore
from tests.api.evaluation.trained import Seen, Trained, sha, train
from tests.api.review.browser import ORIGIN, Browser, Page
from tests.api.review.reviewing import claim, expire, get

Callers = Callable[[str], TestClient]
PAGE = "/review/zoo/1"
REVIEWS = "/v1/projects/zoo/reviews"


@pytest.fixture
def signed_in(app: FastAPI, callers: Callers) -> Callable[[str], Browser]:
    """Give a browser in which this subject has signed in."""

    def sign_in(subject: str) -> Browser:
        token = callers(subject).headers["Authorization"].removeprefix("Bearer ")
        browser = Browser(app)
        browser.send(browser.open(PAGE).form("/sign-in"), token=token)
        return browser

    return sign_in


def verb(place: int) -> str:
    return f"verb-{sha(f'i{place:05}')}"


def menu(place: int) -> str:
    return f"class-{sha(f'i{place:05}')}"


def start(browser: Browser) -> Page:
    return browser.send(browser.open(PAGE).form("/claim"))


def test_anonymous_is_sent_to_the_sign_in_form_and_back(
    app: FastAPI, callers: Callers, review: dict[str, Any]
) -> None:
    browser = Browser(app)
    form = browser.open(PAGE).form("/sign-in")
    assert browser.address.endswith("/review/sign-in?to=/review/zoo/1")
    page = browser.send(form, token="bl_wrong")
    assert browser.answer.status_code == 401
    assert "mistyped" in page.text
    token = callers("reviewer").headers["Authorization"].removeprefix("Bearer ")
    browser.send(form, token=token)
    assert browser.address == f"{ORIGIN}{PAGE}"
    cookie = browser.answer.history[0].headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    for path in (f"{PAGE}/claim", f"{PAGE}/decisions", f"{PAGE}/close"):
        fresh = Browser(app)
        answer = fresh.client.post(path, headers={"Origin": ORIGIN}, data={"screen": sha("a")[:32]})
        assert str(answer.url).startswith(f"{ORIGIN}/review/sign-in")


@pytest.mark.parametrize(
    ("public", "origin", "secure"),
    [
        (None, ORIGIN, False),
        ("http://bears.example.org", ORIGIN, False),
        (None, "https://testserver", True),
        # TLS ends at an ingress that nobody told the server to trust.
        ("https://bears.example.org", ORIGIN, True),
    ],
)
def test_where_people_come_by_https_the_cookie_goes_by_nothing_else(
    app: FastAPI,
    callers: Callers,
    settings: Settings,
    *,
    public: str | None,
    origin: str,
    secure: bool,
) -> None:
    token = callers("reviewer").headers["Authorization"].removeprefix("Bearer ")
    app.state.settings = settings.model_copy(update={"public_url": public})
    browser = TestClient(app, base_url=origin, follow_redirects=False)
    answer = browser.post("/review/sign-in", headers={"Origin": origin}, data={"token": token})
    assert answer.status_code == 303
    assert ("Secure" in answer.headers["set-cookie"]) is secure


@pytest.mark.parametrize("to", ["//evil.example/", "https://evil.example/", "/review/\\evil", ""])
def test_signing_in_leads_nowhere_else(
    app: FastAPI, callers: Callers, review: dict[str, Any], to: str
) -> None:
    browser = Browser(app)
    form = browser.open("/review/sign-in").form("/sign-in")
    token = callers("reviewer").headers["Authorization"].removeprefix("Bearer ")
    page = browser.send(form, token=token, to=to)
    assert browser.address == f"{ORIGIN}/review/"
    assert "Reviews of zoo" in page.text


def test_signing_out_forgets_the_token(
    signed_in: Callable[[str], Browser], review: dict[str, Any]
) -> None:
    browser = signed_in("reviewer")
    assert COOKIE in browser.client.cookies
    browser.send(browser.open(PAGE).form("/sign-out"))
    assert COOKIE not in browser.client.cookies
    browser.open(PAGE)
    assert "/sign-in" in browser.address


def test_a_viewer_sees_the_list_and_may_not_decide(
    signed_in: Callable[[str], Browser], review: dict[str, Any]
) -> None:
    browser = signed_in("viewer")
    assert "Review 1" in browser.open("/review/zoo").text
    assert "this takes reviewer" in browser.open(PAGE).text
    assert browser.answer.status_code == 403
    assert signed_in("stranger").open("/review/zoo").text.count("no project 'zoo'") == 1


def test_a_form_of_another_site_is_refused(
    signed_in: Callable[[str], Browser], client: TestClient, review: dict[str, Any]
) -> None:
    browser = signed_in("reviewer")
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
        answer = browser.client.post(f"{PAGE}/claim", headers=headers)
        assert answer.status_code == 403
        assert "the request came from" in answer.text
    assert get(client, "progress")["claimed"] == 0


def test_looking_claims_nothing_and_one_button_does(
    signed_in: Callable[[str], Browser], client: TestClient, review: dict[str, Any]
) -> None:
    browser = signed_in("reviewer")
    assert browser.open(PAGE).images == []
    assert get(client, "progress")["claimed"] == 0
    page = start(browser)
    assert [response.status_code for response in browser.answer.history] == [303]
    assert len(page.images) == 5
    assert page.images[0]["src"].endswith(f"/images/{sha('i00000')}/thumbnail")
    form = page.form("/decisions")
    assert form.radios[verb(0)] == ["keep", "relabel", "remove", "unsure"]
    assert form.options[menu(0)] == ["", "grizzly", "teddy"]
    assert form.fields[verb(0)] == "keep"
    for seen in ("black", "grizzly", "95.0%", "0 of 12 decided", "Nothing is decided yet."):
        assert seen in page.text
    assert "Undo" not in page.text


def test_a_whole_review_by_forms_alone(
    signed_in: Callable[[str], Browser], client: TestClient, review: dict[str, Any]
) -> None:
    browser = signed_in("trainer")
    page = start(browser)
    changes = {verb(0): "relabel", menu(0): "grizzly", verb(1): "remove", verb(2): "unsure"}
    page = browser.send(page.form("/decisions"), **changes)
    assert "5 of 12 decided" in page.text
    assert len(page.images) == 5
    page = browser.send(page.form("/undo"))
    assert "4 of 12 decided" in page.text
    assert len(page.images) == 6
    page = browser.send(page.form("/decisions"))
    page = browser.send(page.form("/decisions"))
    assert "Every image is decided" in page.text
    page = browser.send(page.form("/close"), retrain="true")
    assert "version 2" in page.text
    assert "run 2 trains on it" in page.text
    assert all("/close" not in form.action for form in page.forms)
    verbs = get(client, "progress")["verbs"]
    assert verbs == {"keep": 9, "relabel": 1, "remove": 1, "unsure": 1}


def test_an_unclear_choice_is_asked_again_with_all_choices_kept(
    signed_in: Callable[[str], Browser], client: TestClient, review: dict[str, Any]
) -> None:
    browser = signed_in("reviewer")
    form = start(browser).form("/decisions")
    page = browser.send(form, **{verb(0): "relabel", verb(1): "remove"})
    assert browser.answer.status_code == 422
    assert "without a class" in page.text
    page = browser.send(form, **{menu(0): "teddy", verb(1): "remove"})
    assert "chosen together with keep" in page.text
    kept = page.form("/decisions").fields
    assert (kept[menu(0)], kept[verb(1)]) == ("teddy", "remove")
    assert get(client, "decisions")["items"] == []


def test_a_lease_that_ran_out_loses_no_choice(
    signed_in: Callable[[str], Browser],
    client: TestClient,
    database: Database,
    review: dict[str, Any],
) -> None:
    browser = signed_in("reviewer")
    form = start(browser).form("/decisions")
    expire(database)
    page = browser.send(form, **{verb(0): "relabel", menu(0): "teddy", verb(1): "remove"})
    assert browser.answer.status_code == 409
    assert "5 of its 5 images are still free" in page.text
    kept = page.form("/decisions")
    assert (kept.fields[verb(0)], kept.fields[menu(0)]) == ("relabel", "teddy")
    assert kept.fields[verb(1)] == "remove"
    assert "5 of 12 decided" in browser.send(kept).text


def test_images_that_another_took_meanwhile_are_not_shown_again(
    signed_in: Callable[[str], Browser],
    client: TestClient,
    database: Database,
    review: dict[str, Any],
) -> None:
    browser = signed_in("reviewer")
    form = start(browser).form("/decisions")
    expire(database)
    claim(client)
    page = browser.send(form)
    assert "0 of its 5 images are still free" in page.text
    assert page.images[0]["src"].endswith(f"/images/{sha('i00005')}/thumbnail")


def test_giving_back_frees_the_images(
    signed_in: Callable[[str], Browser], client: TestClient, review: dict[str, Any]
) -> None:
    browser = signed_in("reviewer")
    page = browser.send(start(browser).form("/release"))
    assert page.images == []
    assert get(client, "progress")["claimed"] == 0


def test_only_a_trainer_sees_and_sends_the_closing_form(
    signed_in: Callable[[str], Browser], client: TestClient, review: dict[str, Any]
) -> None:
    browser = signed_in("reviewer")
    assert all("/close" not in form.action for form in browser.open(PAGE).forms)
    answer = browser.client.post(f"{PAGE}/close", headers={"Origin": ORIGIN}, data={"retrain": ""})
    assert answer.status_code in (403, 422)
    assert client.get(f"{REVIEWS}/1").json()["state"] == "open"


def test_labels_changed_since_are_shown_when_closing(
    signed_in: Callable[[str], Browser],
    database: Database,
    trained: Trained,
    review: dict[str, Any],
) -> None:
    browser = signed_in("trainer")
    page = start(browser)
    page = browser.send(page.form("/decisions"), **{verb(0): "remove"})
    with database.transaction() as session:
        since = [NewEvent(sha("i00000"), "label", trained.classes[2])]
        append_events(session, trained.dataset_id, since, actor="somebody", origin="api")
    page = browser.send(page.form("/close"))
    assert "changed since" in page.text
    assert sha("i00000")[:12] in page.text
    page = browser.send(Browser.open(browser, PAGE).form("/sign-out"))
    assert "Your token" in page.text


def test_names_are_escaped_and_the_page_runs_no_script(
    signed_in: Callable[[str], Browser],
    client: TestClient,
    database: Database,
    store: FolderStore,
    project: Project,
) -> None:
    evil = "<script>alert(1)</script>"
    train(database, store, project, [Seen("i00000", 0, 1), Seen("i00001", None, 1)], names=(evil,))
    client.post(REVIEWS, json={"run": 1})
    browser = signed_in("reviewer")
    page = start(browser)
    assert evil in page.text
    assert evil not in browser.answer.text
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "style", "iframe", "object"}
    given = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in given if name.startswith("on") or name == "style"}
    policy = browser.answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # A conflict has no label to keep, and unsure is what it is until somebody knows.
    form = page.form("/decisions")
    assert form.radios[verb(1)] == ["relabel", "remove", "unsure"]
    assert form.fields[verb(1)] == "unsure"


def test_every_field_and_picture_has_a_name(
    signed_in: Callable[[str], Browser], review: dict[str, Any]
) -> None:
    browser = signed_in("trainer")
    page = start(browser)
    assert all(image["alt"] for image in page.images)
    assert all("aria-label" in given for tag, given in page.tags if tag == "select")
    # Focus follows the reading order: nothing jumps it.
    assert not any("tabindex" in given for _, given in page.tags)
    sheet = next(given["href"] for tag, given in page.tags if tag == "link")
    css = browser.client.get(sheet)
    assert css.status_code == 200
    assert len(css.text.splitlines()) <= 250
