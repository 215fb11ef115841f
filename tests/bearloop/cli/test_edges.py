"""What the command line says when something is wrong, and to programs."""

import json
import os
import socket
import stat
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.main import get_command

from api.database import Database
from api.jobs.states import JobState
from api.tables import Job, Project, Run
from bearloop.cli.login import find_login
from bearloop.cli.main import app as commands
from bearloop.cli.sources import SourceError, dataset_name, files_in, read_lists, zip_folder
from bearloop.contract.runs import RunSpec
from bearloop.store import FolderStore
from tests.api.evaluation.trained import add_run, bears, end_run, train
from tests.bearloop.cli.conftest import Cli
from tests.fixtures.cluster import until


def test_every_command_speaks_to_programs_and_explains_itself() -> None:
    for name, command in leaves(get_command(commands)):
        options = {word for parameter in command.params for word in parameter.opts}
        assert "--json" in options or name == "demo", name
        assert command.help, name


def test_a_login_is_kept_for_its_owner_alone(cli: Cli, home: Path, url: str, token: str) -> None:
    before = os.umask(0)
    try:
        said = cli("login", url, "--token", token, "--project", "zoo")
    finally:
        os.umask(before)
    kept = home / "config" / "bearloop" / "login.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())["token"] == token
    assert token not in said.out + said.err
    assert said.next == "bearloop import FOLDER"


def test_a_wrong_login_is_not_kept(cli: Cli, home: Path, url: str, token: str) -> None:
    wrong = cli("login", url, "--token", "bl_nonsense", "--project", "zoo", code=1)
    assert "Way out: send `Authorization" in wrong.error
    assert (
        "no project 'moon'"
        in cli("login", url, "--token", token, "--project", "moon", code=1).error
    )
    assert not (home / "config").exists()


def test_a_kept_token_goes_to_no_other_api(
    logged_in: Cli, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    assert find_login().url == url
    monkeypatch.setenv("BEARLOOP_URL", "http://127.0.0.1:9")
    assert "BEARLOOP_TOKEN" in logged_in("runs", code=3).error


def test_a_damaged_login_is_said_so(cli: Cli, home: Path) -> None:
    kept = home / "config" / "bearloop" / "login.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{")
    assert "is damaged" in cli("runs", code=3).error


def test_exit_codes_tell_refused_from_mistyped_from_unreachable(
    logged_in: Cli, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "no run 7" in logged_in("runs", 7, code=1).error
    logged_in("runs", "seven", code=2)
    logged_in("import", tmp_path / "nothing", code=2)
    logged_in("nonsense", code=2)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    monkeypatch.setenv("BEARLOOP_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("BEARLOOP_TOKEN", "t")
    assert "does not answer" in logged_in("runs", code=3).error


def test_without_a_login_the_way_out_is_named(cli: Cli) -> None:
    assert "bearloop up" in cli("runs", code=3).error


def test_a_mistyped_source_makes_no_dataset(logged_in: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no file in it" in logged_in("import", tmp_path / "empty", code=2).error
    (tmp_path / "a.txt").write_text("http://a/1.jpg")
    twice = logged_in("import", tmp_path / "a.txt", tmp_path / "a.txt", code=2)
    assert "second list of class a" in twice.error
    logged_in("profile", "empty", code=1)
    assert "unknown_dataset" in logged_in("profile", "a", code=1).error


def test_what_is_no_zip_is_refused_with_the_way_out(logged_in: Cli, tmp_path: Path) -> None:
    (tmp_path / "bears.zip").write_text("no zip")
    assert "no_zip" in logged_in("import", tmp_path / "bears.zip", code=1).error


def test_reading_commands_give_json_and_nothing_else(
    logged_in: Cli, database: Database, store: FolderStore, project: Project
) -> None:
    train(database, store, project, bears(12))
    assert logged_in("profile", "bears", "--json").json["images"] == 12
    report = logged_in("report", 1, "--json").json
    assert report["run"] == 1
    assert "too_few_epochs" in [finding["code"] for finding in report["findings"]]
    assert report["lr_finds"][0]["suggestions"]["valley"] == 8e-3
    assert logged_in("runs", "--json").json[0]["metrics"]
    opened = logged_in("review", "open", 1, "--json").json
    assert opened["number"] == 1
    assert logged_in("review", "list", "--json").json == [opened]
    assert logged_in("review", "close", 1, "--json").json["review"]["state"] == "closed"
    started = logged_in("train", "bears", "--no-wait", "--epochs", 2, "--weights", "none", "--json")
    assert [run["state"] for run in started.json] == ["queued"]
    assert logged_in("train", "bears", "--no-wait", "--weights", "none").next.startswith(
        "bearloop runs 3"
    )
    assert logged_in("runs", 2, "--cancel", "--json").json["number"] == 2


def test_a_report_says_what_went_wrong_and_which_rates_are_suggested(
    logged_in: Cli, database: Database, store: FolderStore, project: Project
) -> None:
    train(database, store, project, bears(12))
    report = logged_in("report", 1)
    assert "too_few_epochs: the training loss is 1.2" in report.err
    assert "train the stage 'head' for 3 epochs" in report.err
    assert "lr-find before head" in report.out
    assert "taken for auto" in report.out


@pytest.mark.parametrize("as_json", [False, True])
def test_of_several_seeds_the_others_are_told_where_one_fails(
    logged_in: Cli, database: Database, store: FolderStore, project: Project, as_json: bool
) -> None:
    trained = train(database, store, project, bears(12))
    logged_in("freeze", "bears")

    def end_them() -> None:
        until(lambda: len(_queued(database)) == 2)
        first, second = _queued(database)
        with database.transaction() as session:
            session.get_one(Job, first.job_id).state = JobState.cancelled
        end_run(database, store, trained, number=second.number)

    with ThreadPoolExecutor(1) as beside:
        ending = beside.submit(end_them)
        asked = ("train", "bears", "--weights", "none", "--seeds", 2, *["--json"] * as_json)
        told = logged_in(*asked, code=1)
        ending.result()
    assert "run 2: " in told.error
    if as_json:
        assert [run["number"] for run in told.json] == [3]
    else:
        assert "run 3, seed 43: " in told.err
        assert "error" in told.out


def _queued(database: Database) -> list[Run]:
    with database.transaction() as session:
        waiting = select(Run).join(Job, Job.id == Run.job_id).where(Job.state == JobState.queued)
        return list(session.scalars(waiting.order_by(Run.number)))


def test_how_sure_a_figure_is_is_said(
    logged_in: Cli, database: Database, store: FolderStore, project: Project
) -> None:
    trained = train(database, store, project, bears(12))
    add_run(database, store, trained, seed=8)
    report = logged_in("report", 1)
    assert "spread of the error over seeds" in report.out
    assert "2 seeds: " in report.err
    assert "share of the label" in report.out
    compared = logged_in("compare", 1, 2)
    assert "error on test before" in compared.out
    assert "the difference, +0.0%, lies inside the spread of the seeds" in compared.err
    assert logged_in("compare", 1, 2, "--json").json["verdict"]["code"] == "inside_spread"


def test_a_run_runs_again_elsewhere_by_one_command(
    logged_in: Cli, database: Database, store: FolderStore, project: Project
) -> None:
    train(database, store, project, bears(12))
    told = logged_in("runs", 1, "--spec")
    assert RunSpec.model_validate_json(told.out).seed == 7
    assert told.next.startswith("python -m trainer --spec spec.json --store file://")


def test_recipe_overrides_reach_the_run_or_are_refused(
    logged_in: Cli, database: Database, store: FolderStore, project: Project
) -> None:
    train(database, store, project, bears(12))
    logged_in("freeze", "bears")
    refused = logged_in("train", "bears", "--size", 4, code=1)
    assert "size" in refused.error
    assert (
        "no_such_weights"
        in logged_in("train", "bears", "--weights", "file:///none.pth", code=1).error
    )
    assert "a number like 2e-3" in logged_in("train", "bears", "--lr", "high", code=2).err
    auto = logged_in("train", "bears", "--lr", "auto", "--weights", "none", "--no-wait", "--json")
    assert auto.json[0]["state"] == "queued"
    options = ("--class-weights", "balanced", "--label-smoothing", 0.1, "--mixup", 0.4)
    options += ("--precision", "fp16", "--batch-size", 16, "--accumulate", 4)
    asked = logged_in("train", "bears", "--weights", "none", *options, "--no-wait", "--json")
    assert asked.json[0]["state"] == "queued"
    both = logged_in(
        "train", "bears", "--class-weights", "balanced", "--oversample", "--no-wait", code=1
    )
    assert "would count twice" in both.error
    assert "unknown_recipe" in logged_in("train", "bears", "--recipe", "magic", code=1).error


def test_a_folder_is_packed_without_what_nobody_means(tmp_path: Path) -> None:
    folder = tmp_path / "bears"
    for name in ("black/1.jpg", "black/.DS_Store", ".git/config", "teddy/Thumbs.db", "teddy/2.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    os.utime(folder / "black" / "1.jpg", (0, 0))
    (tmp_path / "labels.csv").write_text("name,label")
    packed = tmp_path / "packed.zip"
    shown: list[tuple[int, int]] = []
    inside = zip_folder(
        folder, packed, labels=tmp_path / "labels.csv", show=lambda *at: shown.append(at)
    )
    assert inside == "labels.csv"
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == ["black/1.jpg", "teddy/2.jpg", "labels.csv"]
    assert shown == [(1, 2), (2, 2)]
    assert [path.name for path in files_in(folder)] == ["1.jpg", "2.jpg"]


def test_a_file_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "black").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "black") + b"/\xff.jpg")).write_bytes(b"x")
    with pytest.raises(SourceError, match="rename it"):
        zip_folder(tmp_path, tmp_path.with_suffix(".zip"), show=lambda *_: None)


def test_lists_name_their_classes(tmp_path: Path) -> None:
    (tmp_path / "urls_black.txt").write_text("\ufeffhttp://a/1.jpg\n\n http://a/2.jpg \n")
    lists = [tmp_path / "urls_black.txt"]
    assert read_lists(lists, []).urls == {"black": ("http://a/1.jpg", "http://a/2.jpg")}
    assert list(read_lists(lists, ["grizzly"]).urls) == ["grizzly"]
    with pytest.raises(SourceError, match="one for each"):
        read_lists(lists, ["black", "teddy"])


@pytest.mark.parametrize(
    ("source", "name"),
    [("My Photos", "my-photos"), ("bears.zip", "bears"), ("Bären", "b-ren"), ("...", "images")],
)
def test_a_dataset_is_named_as_the_api_allows(tmp_path: Path, source: str, name: str) -> None:
    assert dataset_name(tmp_path / source) == name


def leaves(group: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield every command, also those below `review`."""
    for word, command in group.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from leaves(command, word)
        else:
            yield word, command
