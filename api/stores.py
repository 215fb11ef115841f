"""The object store as routes and the worker see it: below one project's prefix."""

from typing import Annotated

from fastapi import Depends, Request

from api.access import Caller, caller_in
from bearloop.store import Store


def below_project(store: Store, project_id: int) -> Store:
    """Return the store below the project's own prefix; ids, as a name may change."""
    return store.under(f"projects/{project_id}")


def request_store(
    request: Request, caller: Annotated[Caller, Depends(caller_in, scope="function")]
) -> Store:
    """Give the route the caller's project's store."""
    return below_project(request.app.state.store, caller.project_id)


ProjectStore = Annotated[Store, Depends(request_store, scope="function")]
