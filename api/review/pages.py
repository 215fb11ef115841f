"""The review page: five pictures, plain forms, no script; every POST ends in a redirect."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, FastAPI, Form, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from sqlalchemy.orm import Session
from starlette.datastructures import State

from api.access import (
    COOKIE,
    Caller,
    ProjectName,
    Subject,
    UnauthorisedError,
    at_least,
    caller_in,
    find_token,
    subject_of,
)
from api.database import Db
from api.errors import ApiError
from api.origin import check_origin
from api.paging import CursorText
from api.review import closing, decisions, progress, queue, screens
from api.review.page_forms import Choice, CloseForm, ScreenForm, SignInForm, UndoForm, read_choices
from api.review.routes import ReviewNumber
from api.roles import Role
from api.stores import ProjectStore
from api.tokens import looks_right

FOLDER = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Not `no-referrer`: it would make the browser hide the origin that check_origin looks at.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class SignInNeeded(Exception):  # noqa: N818 - no error: the way to the sign-in page
    """Nobody is signed in."""


def page_caller(least: Role) -> Callable[[Request, str, Db], Caller]:
    """Make the dependency that lets a role pass, and sends who is not signed in to the form."""

    def check(request: Request, project: ProjectName, session: Db) -> Caller:
        return at_least(least)(caller_in(project, signed_in(request, session), session))

    check.least = least  # type: ignore[attr-defined]  # as of `at_least`
    return check


def signed_in(request: Request, session: Db) -> Subject:
    """Find the subject of the sign-in, or send it to the form."""
    try:
        return subject_of(request, session)
    except UnauthorisedError as error:
        raise SignInNeeded from error


SignedIn = Annotated[Subject, Depends(signed_in, scope="function")]
Looker = Annotated[Caller, Depends(page_caller(Role.viewer), scope="function")]
Decider = Annotated[Caller, Depends(page_caller(Role.reviewer), scope="function")]
Closer = Annotated[Caller, Depends(page_caller(Role.trainer), scope="function")]


def review_pages(state: State) -> FastAPI:
    """Build the pages' application, to be mounted at `/review`; it shares the API's state."""
    pages = FastAPI(openapi_url=None, dependencies=[Depends(check_origin)])
    pages.state = state
    templates = Jinja2Templates(directory=FOLDER / "templates")
    templates.env.filters["percent"] = "{:.1%}".format
    state.review_templates = templates
    pages.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    pages.add_exception_handler(SignInNeeded, _to_sign_in)
    pages.add_exception_handler(ApiError, _show_error)
    get = partial(pages.add_api_route, methods=["GET"], response_model=None)
    post = partial(pages.add_api_route, methods=["POST"], response_model=None)
    get("/sign-in", show_sign_in)
    post("/sign-in", sign_in)
    post("/sign-out", sign_out)
    get("/", show_projects)
    get("/{project}", show_reviews)
    get("/{project}/{review}", show_page)
    post("/{project}/{review}/claim", claim)
    post("/{project}/{review}/decisions", decide)
    post("/{project}/{review}/undo", undo)
    post("/{project}/{review}/release", release)
    post("/{project}/{review}/close", close)
    return pages


def show_sign_in(request: Request, to: str = "") -> Response:
    """Show the form that takes a token."""
    return _render(request, "sign_in.html", {"to": to})


def sign_in(request: Request, session: Db, *, form: Annotated[SignInForm, Form()]) -> Response:
    """Keep a valid token in a cookie that scripts cannot read and other sites cannot send."""
    token = form.token.strip()
    found = find_token(session, token) if looks_right(token) else None
    if found is None:
        context = {"to": form.to, "problem": "This token is mistyped, expired or revoked."}
        return _render(request, "sign_in.html", context, status=401)
    answer = RedirectResponse(_inside(request, form.to), status_code=303)
    answer.set_cookie(
        COOKIE,
        token,
        httponly=True,
        samesite="strict",
        secure=_over_https(request),
        path="/",
    )
    return answer


def sign_out(request: Request) -> Response:
    """Forget the token."""
    answer = RedirectResponse(f"{_root(request)}/sign-in", status_code=303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def show_projects(request: Request, subject: SignedIn, session: Db) -> Response:
    """List the projects whose reviews the subject may look at."""
    projects = queue.projects_of(session, subject)
    return _render(request, "projects.html", {"projects": projects})


def show_reviews(
    request: Request, caller: Looker, session: Db, *, cursor: CursorText = None
) -> Response:
    """List the project's reviews."""
    page = queue.list_reviews(session, caller, cursor=cursor, limit=50)
    return _render(request, "reviews.html", {"caller": caller, "page": page})


def show_page(request: Request, caller: Decider, session: Db, *, review: ReviewNumber) -> Response:
    """Show the reviewer's open screen; looking claims nothing."""
    return _screen_page(request, caller, session, review=review)


def claim(request: Request, caller: Decider, session: Db, *, review: ReviewNumber) -> Response:
    """Claim the next screen."""
    screens.claim(session, caller, review, lease=request.app.state.settings.screen_lease)
    return _to_page(request, caller, review)


def decide(
    request: Request,
    caller: Decider,
    session: Db,
    *,
    review: ReviewNumber,
    form: Annotated[ScreenForm, Form()],
) -> Response:
    """Take the screen's decisions and claim the next one; what is refused is asked again."""
    lease = request.app.state.settings.screen_lease
    choices = read_choices(form)
    again = partial(_screen_page, request, caller, session, review=review, choices=choices)
    if unclear := [choice for choice in choices.values() if choice.unclear]:
        return again(problem=unclear[0].unclear, status=422)
    asked = [choice.asked(sha256) for sha256, choice in choices.items()]
    try:
        if asked:
            decisions.decide(session, caller, review, screen_id=form.screen, asked=asked)
    except decisions.LeaseExpiredError as error:
        # Nothing was written; what is still free comes back, with what was chosen for it.
        screens.claim(session, caller, review, lease=lease)
        return again(problem=f"Your time for this screen was over: {error.detail}.", status=409)
    except (decisions.BadDecisionError, decisions.UnknownChoiceError) as error:
        return again(problem=f"{error.detail}. {error.way_out}.", status=422)
    screens.claim(session, caller, review, lease=lease)
    return _to_page(request, caller, review)


def undo(
    request: Request,
    caller: Decider,
    session: Db,
    *,
    review: ReviewNumber,
    form: Annotated[UndoForm, Form()],
) -> Response:
    """Take back the reviewer's last decisions."""
    lease = request.app.state.settings.screen_lease
    decisions.undo(session, caller, review, count=form.count, lease=lease)
    return _to_page(request, caller, review)


def release(request: Request, caller: Decider, session: Db, *, review: ReviewNumber) -> Response:
    """Give the screen back."""
    screens.release(session, caller, review)
    return _to_page(request, caller, review)


def close(
    request: Request,
    caller: Closer,
    session: Db,
    *,
    store: ProjectStore,
    review: ReviewNumber,
    form: Annotated[CloseForm, Form()],
) -> Response:
    """Close the review; conflicts are shown, as nothing else will tell of them."""
    closed = closing.close_review(session, store, caller, number=review, retrain=form.retrain)
    if not closed.conflicts:
        return _to_page(request, caller, review)
    return _screen_page(request, caller, session, review=review, conflicts=closed.conflicts)


def _screen_page(
    request: Request,
    caller: Caller,
    session: Session,
    *,
    review: int,
    choices: Mapping[str, Choice] | None = None,
    problem: str | None = None,
    conflicts: object = None,
    status: int = 200,
) -> Response:
    context = {
        "caller": caller,
        "may_close": caller.role.reaches(Role.trainer),
        "review": queue.show_review(session, caller, review),
        "progress": progress.show_progress(session, caller, review),
        "screen": screens.show_screen(session, caller, review),
        "choices": choices or {},
        "problem": problem,
        "conflicts": conflicts,
    }
    return _render(request, "review.html", context, status=status)


def _render(
    request: Request, template: str, context: dict[str, Any], *, status: int = 200
) -> Response:
    templates: Jinja2Templates = request.app.state.review_templates
    return templates.TemplateResponse(
        request,
        template,
        {"root": _root(request), **context},
        status_code=status,
        headers=HEADERS,
    )


def _to_sign_in(request: Request, _: Exception) -> Response:
    to = request.url.path if request.method == "GET" else ""
    return RedirectResponse(f"{_root(request)}/sign-in?to={quote(to)}", status_code=303)


def _show_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _render(request, "problem.html", {"error": error}, status=error.status)


def _to_page(request: Request, caller: Caller, review: int) -> Response:
    path = f"{_root(request)}/{quote(caller.project)}/{review}"
    return RedirectResponse(path, status_code=303)


def _inside(request: Request, to: str) -> str:
    # An address of ours only: `//elsewhere` and `/\elsewhere` are other sites to a browser.
    root = _root(request)
    ours = (f"{root}/", f"{root.removesuffix('/review')}/mlflow/")
    inside = to.startswith(ours) and "\\" not in to and not urlsplit(to).netloc
    return quote(to) if inside else f"{root}/"


def _over_https(request: Request) -> bool:
    # Who ends TLS before us may not be trusted to say so: then the public address tells.
    public = request.app.state.settings.public_url or ""
    return request.url.scheme == "https" or public.startswith("https://")


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))
