"""Every command of the life, one after the other, on a real platform."""

import csv
from io import StringIO
from pathlib import Path
from shutil import make_archive

import pytest

from tests.bearloop.cli.conftest import Cli
from tests.life.pictures import shapes
from tests.life.platform import Up, bearloop_up


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Shapes as class folders below train, valid and test."""
    folder = tmp_path / "My Shapes"
    for name, data in shapes(shares={"train": 10, "valid": 4, "test": 2}).files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "train" / "circle" / "notes.jpg").write_text("no picture")
    return folder


@pytest.mark.long
def test_the_life_by_the_command_line(
    cli: Cli, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bearloop_up() as up:
        monkeypatch.setenv("BEARLOOP_FOLDER", str(up.folder))
        bring_in(cli, photographs)
        bring_in_otherwise(cli, photographs)
        train(cli)
        review(cli, up)
        serve(cli, photographs)


def bring_in(cli: Cli, photographs: Path) -> None:
    imported = cli("import", photographs)
    assert "48 stored, 0 duplicates, 1 refused" in imported.err
    assert "notes.jpg" in imported.out
    assert imported.next == "bearloop profile my-shapes"
    again = cli("import", photographs, "--dataset", "my-shapes", "--in-place", "--json").json
    assert again["import"]["stored"] == 48
    assert len(again["refused"]) == 1
    profile = cli("profile", "my-shapes")
    assert "unassigned" in profile.out
    assert "48 images" in profile.err
    assert cli("profile", "my-shapes", "--json").json["images"] == 48
    frozen = cli("freeze", "my-shapes")
    assert frozen.next == "bearloop train my-shapes"
    assert cli("freeze", "my-shapes", "--json").json["number"] == 1


def bring_in_otherwise(cli: Cli, photographs: Path) -> None:
    zipped = make_archive(str(photographs.with_name("Zipped")), "zip", photographs)
    assert cli("import", zipped, "--json").json["import"]["stored"] == 48
    flat = photographs.with_name("flat")
    flat.mkdir()
    for number, picture in enumerate((photographs / "valid").rglob("*.png")):
        (flat / f"{number}.png").write_bytes(picture.read_bytes())
    rows = [f"{number},{'circle' if number % 2 else 'square'}" for number in range(12)]
    (photographs.parent / "labels.csv").write_text("\n".join(["file,kind", *rows]))
    columns = ("--file-column", "file", "--label-column", "kind", "--suffix", ".png")
    labels = ("--labels", photographs.parent / "labels.csv")
    assert "12 stored" in cli("import", flat, *labels, *columns).err
    assert cli("profile", "flat", "--json").json["classes"][0]["images"] == 6
    addresses = photographs.with_name("urls_circle.txt")
    addresses.write_text("http://127.0.0.1/1.png\n")
    listed = cli("import", addresses, "--dataset", "listed")
    assert "private_address" in listed.out


def train(cli: Cli) -> None:
    asked = ("--recipe", "from-scratch", "--epochs", 1, "--size", 16, "--device", "cpu")
    trained = cli("train", "my-shapes", *asked, "--seeds", 2)
    assert "spread of the error" in trained.out
    assert trained.next.startswith("bearloop report 1")
    listed = cli("runs", "--json").json
    assert [run["state"] for run in listed] == ["done", "done"]
    assert [run["seed"] for run in listed] == [43, 42]
    assert cli("runs").next
    assert cli("runs", 1).next == "bearloop report 1"
    assert cli("runs", 1, "--logs", "--json").json["run"] == 1
    report = cli("report", 1)
    assert "top losses" in report.out
    assert report.next == "bearloop review open 1"
    assert cli("report", 1, "--json").json["classes"] == ["circle", "square", "triangle"]


def review(cli: Cli, up: Up) -> None:
    opened = cli("review", "open", 1)
    assert f"{up.url}/review/main/1" in opened.err
    screen = up.client().reviews.claim(1)
    assert len(screen.images) == 5
    assert "0 of 48 decided" in cli("review", "show", 1).err
    assert cli("review", "show", 1, "--json").json["decided"] == 0
    assert cli("review", "list").next
    closed = cli("review", "close", 1)
    assert closed.next == "bearloop train my-shapes"
    twice = cli("review", "close", 1, code=1)
    assert "already_closed" in twice.error


def serve(cli: Cli, photographs: Path) -> None:
    cli("promote", 1, "shapes")
    kept = cli("promote", 2, "shapes", "--max-error", 0.1, code=2)
    assert "--max-error" in kept.error
    promoted = cli("promote", 2, "shapes", "--json").json
    assert promoted["state"] == "live"
    picture = next((photographs / "test" / "circle").iterdir())
    classified = cli("classify", "shapes", picture)
    assert picture.name in classified.out.replace("\n", "")
    assert classified.next
    (answer,) = cli("classify", "shapes", picture, "--json").json
    assert answer["class"] in ("circle", "square", "triangle")
    predicted = cli("predict", "shapes", photographs)
    rows = list(csv.DictReader(StringIO(predicted.out)))
    assert len(rows) == 49
    assert [row["file"] for row in rows if row["error"]] == ["train/circle/notes.jpg"]
    assert len(cli("predict", "shapes", photographs / "test", "--json").json) == 6
    assert "serves run 1 again" in cli("rollback", "shapes").err
