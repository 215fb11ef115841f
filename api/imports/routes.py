"""Images in: sources become a job, its ledger becomes images and claims."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from api.access import Caller, Trainer, UnauthorisedError, Viewer
from api.allowed_sources import BadAddressError, ForbiddenAddressError
from api.database import Db
from api.dataset import UnknownDatasetError, find_dataset
from api.errors import responses
from api.idempotency import IdempotentRoute
from api.imports import imports, sources, uploads
from api.imports.imports import Asking
from api.imports.schemas import AskedSource, ImportView, SourceView, StatusFilter, Upload
from api.paging import CursorText, Limit, Page
from api.stores import ProjectStore
from api.tables import Import

router = APIRouter(
    route_class=IdempotentRoute,
    tags=["imports"],
    responses=responses(UnauthorisedError, UnknownDatasetError),
)
IMPORTS = "/projects/{project}/datasets/{dataset}/imports"
UPLOADS = "/projects/{project}/datasets/{dataset}/uploads"
DatasetName = Annotated[str, Path(alias="dataset", description="The dataset's name.")]
Number = Annotated[int, Path(alias="number", ge=1, le=2**31, description="The import's number.")]


def asking(request: Request, caller: Trainer, dataset: DatasetName) -> Asking:
    """Gather who asks for which dataset, on what installation."""
    return Asking(caller, dataset, request.app.state.settings)


Asked = Annotated[Asking, Depends(asking, scope="function")]
ZIP_BODY = {"requestBody": {"content": {"application/zip": {}}, "required": True}}


@router.post(
    UPLOADS,
    status_code=201,
    openapi_extra=ZIP_BODY,
    responses=responses(uploads.UploadTooLargeError, uploads.NoZipError),
)
def upload_zip(
    caller: Trainer, session: Db, *, dataset: DatasetName, store: ProjectStore, request: Request
) -> Upload:
    """Upload a zip of pictures as the raw body; a zip source then names it by `upload`."""
    find_dataset(session, caller, dataset)
    return uploads.receive_zip(request, session, caller, store=store)


@router.post(
    IMPORTS,
    status_code=202,
    responses=responses(
        BadAddressError,
        ForbiddenAddressError,
        sources.NoSuchFolderError,
        sources.UnknownUploadError,
        sources.EmptySourceError,
        sources.BadClassNameError,
        sources.BadLabelsPathError,
    ),
)
def start_import(
    asked: Asked, session: Db, *, source: AskedSource, store: ProjectStore, response: Response
) -> ImportView:
    """Import class folders, a zip or lists of addresses; poll the `Location` of the answer."""
    started = imports.start_import(session, asked, source=source, store=store)
    return _located(response, asked.caller, started)


@router.get(IMPORTS)
def list_imports(
    caller: Viewer,
    session: Db,
    dataset: DatasetName,
    *,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Page[ImportView]:
    """List the dataset's imports, the newest first."""
    return imports.list_imports(session, caller, dataset, cursor=cursor, limit=limit)


@router.get(IMPORTS + "/{number}", responses=responses(imports.UnknownImportError))
def show_import(caller: Viewer, session: Db, dataset: DatasetName, *, number: Number) -> ImportView:
    """Show an import: its state, how far it is, and what came of it."""
    return imports.show_import(session, caller, dataset, number=number)


def named_import(caller: Viewer, session: Db, dataset: DatasetName, *, number: Number) -> Import:
    """Find the import that the path names."""
    return imports.find_import(session, caller, dataset, number=number)


NamedImport = Annotated[Import, Depends(named_import, scope="function")]


@router.get(IMPORTS + "/{number}/sources", responses=responses(imports.UnknownImportError))
def list_sources(
    session: Db,
    found: NamedImport,
    *,
    status: StatusFilter = None,
    cursor: CursorText = None,
    limit: Limit = 100,
) -> Page[SourceView]:
    """List what became of each file or address, in source order; refused ones say why."""
    return imports.list_sources(session, found, status=status, cursor=cursor, limit=limit)


@router.post(
    IMPORTS + "/{number}/retry",
    status_code=202,
    responses=responses(
        imports.UnknownImportError, imports.ImportRunningError, imports.NothingToRetryError
    ),
)
def retry_import(asked: Asked, session: Db, *, number: Number, response: Response) -> ImportView:
    """Import again, as a new import, the refused lines that may succeed now."""
    started = imports.retry_import(session, asked, number=number)
    return _located(response, asked.caller, started)


@router.post(
    IMPORTS + "/{number}/cancel",
    status_code=202,
    responses=responses(imports.UnknownImportError, imports.ImportEndedError),
)
def cancel_import(
    caller: Trainer, session: Db, dataset: DatasetName, *, number: Number
) -> ImportView:
    """Cancel an import that has not ended; nothing of it enters the dataset."""
    return imports.cancel_import(session, caller, dataset, number=number)


def _located(response: Response, caller: Caller, started: ImportView) -> ImportView:
    place = f"/v1/projects/{caller.project}/datasets/{started.dataset}/imports/{started.number}"
    response.headers["Location"] = place
    return started
