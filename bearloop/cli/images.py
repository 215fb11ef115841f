"""`import`, `profile` and `freeze`: from pictures to a version."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bearloop.cli.login import connect
from bearloop.cli.output import Json, count_bar, hint, job_bar, print_json, print_table, said
from bearloop.cli.sources import (
    NO_LABELS,
    AskedLabels,
    SourceError,
    dataset_name,
    files_in,
    name_inside,
    read_labels,
    read_lists,
    zip_folder,
)
from bearloop.client import ApiProblem, Client
from bearloop.client.views import ImportView
from bearloop.contract.imports import FolderSource, Source, ZipSource

SPLITS = ("train", "valid", "test", "unassigned")
DatasetArgument = Annotated[str, typer.Argument(help="The dataset's name.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this page."""
    app.command("import")(import_images)
    app.command()(profile)
    app.command()(freeze)


def import_images(
    sources: Annotated[
        list[Path],
        typer.Argument(exists=True, help="A folder, a zip, or one list of addresses per class."),
    ],
    *,
    dataset: Annotated[str | None, typer.Option(help="Default: the source's name.")] = None,
    class_name: Annotated[
        list[str] | None, typer.Option("--class", help="Of each address list, in their order.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A CSV that names the labels; of a zip, its name inside.")
    ] = None,
    file_column: Annotated[str | None, typer.Option()] = None,
    label_column: Annotated[str | None, typer.Option()] = None,
    split_column: Annotated[str | None, typer.Option()] = None,
    suffix: Annotated[str | None, typer.Option(help="Of the names in the CSV: .jpg")] = None,
    in_place: Annotated[
        bool, typer.Option(help="The platform reads the folder itself (same machine).")
    ] = False,
    valid_share: Annotated[float, typer.Option(help="Of a new dataset.")] = 0.2,
    as_json: Json = False,
) -> None:
    """Bring images in, verify them, and tell what became of each source."""
    client = connect()
    name = dataset or dataset_name(sources[0])
    asked = AskedLabels(labels, file_column, label_column, split_column, suffix)
    source = _source(sources, class_name or [], asked, in_place=in_place)
    _ensure_dataset(client, name, valid_share)
    if isinstance(source, Path):
        source = upload_folder(client, name, source, asked=asked)
    started = client.datasets.start_import(name, source)
    with job_bar(f"import {started.number}") as show:
        ended = client.datasets.wait_for_import(name, started.number, show=show)
    _tell_import(client, name, ended, as_json=as_json)


def profile(dataset: DatasetArgument, as_json: Json = False) -> None:
    """Show counts per class and split, and sizes."""
    answer = connect().datasets.profile(dataset)
    if as_json:
        print_json(answer)
        return
    rows = [
        [row["name"], *(row[split] for split in SPLITS), row["images"]] for row in answer["classes"]
    ]
    print_table(dataset, rows, columns=["class", *SPLITS, "images"])
    said.print(
        f"{answer['images']} images, {answer['bytes'] / 1e6:.1f} MB; "
        f"conflicts {answer['conflicts']}, removed {answer['removed']}",
        markup=False,
    )
    if answer["width"]:
        sides = [f"{name} {_spread(answer[name])}" for name in ("width", "height")]
        said.print(f"pixels (least, median, most): {', '.join(sides)}", markup=False)
    hint(f"bearloop contact-sheet {dataset}, or bearloop freeze {dataset}")


def freeze(dataset: DatasetArgument, as_json: Json = False) -> None:
    """Freeze what the dataset holds now into a version."""
    version = connect().datasets.freeze(dataset)
    if as_json:
        print_json(version)
        return
    said.print(
        f"version {version.number} of {dataset}: {version.digest}", markup=False, soft_wrap=True
    )
    hint(f"bearloop train {dataset}")


def upload_folder(
    client: Client, dataset: str, path: Path, *, asked: AskedLabels = NO_LABELS
) -> ZipSource:
    """Pack a folder, or take a zip as it is, and upload it."""
    inside = str(asked.path) if asked.path else None
    with TemporaryDirectory(prefix="bearloop-") as temporary:
        packed = path
        if path.is_dir():
            packed = Path(temporary) / "upload.zip"
            with count_bar("packing") as show:
                inside = zip_folder(path, packed, labels=asked.path, show=show)
        with count_bar("uploading", of_bytes=True) as show:
            upload = client.datasets.upload(dataset, packed, show=show)
    return ZipSource(upload=upload, labels=read_labels(inside, asked))


def _source(
    paths: list[Path], class_names: list[str], asked: AskedLabels, *, in_place: bool
) -> Path | Source:
    """Read what the command line names; a path is still to be uploaded."""
    if paths[0].suffix == ".txt":
        return read_lists(paths, class_names)
    if len(paths) > 1:
        raise SourceError("one folder or zip at a time; several only of address lists (.txt)")
    if class_names:
        raise SourceError("--class goes with address lists (.txt); folders name their classes")
    if paths[0].is_dir():
        files_in(paths[0])
    if not in_place:
        return paths[0]
    inside = name_inside(asked.path, paths[0]) if asked.path else None
    return FolderSource(uri=paths[0].resolve().as_uri(), labels=read_labels(inside, asked))


def _spread(sizes: dict[str, int]) -> str:
    return f"{sizes['min']}, {sizes['median']}, {sizes['max']}"


def _ensure_dataset(client: Client, name: str, valid_share: float) -> None:
    try:
        client.datasets.get(name)
    except ApiProblem as problem:
        if problem.status != 404:
            raise
        client.datasets.create(name, valid_share=valid_share)
        said.print(f"dataset {name} made", markup=False)


def _tell_import(client: Client, name: str, ended: ImportView, *, as_json: bool) -> None:
    refused = list(client.datasets.ledger(name, ended.number, status="refused"))
    if as_json:
        print_json({"import": ended.model_dump(mode="json"), "refused": [*map(dict, refused)]})
        return
    said.print(
        f"{ended.stored} stored, {ended.duplicates} duplicates, {ended.refused} refused, "
        f"{ended.conflicts} conflicts",
        markup=False,
    )
    if refused:
        rows = [[line.location, line.code, line.detail] for line in refused[:20]]
        print_table("refused (first 20)", rows, columns=["source", "code", "why"])
    hint(f"bearloop profile {name}")
