"""The evaluation routes' stories: find the report, ask the rules, answer in class names."""

from typing import NamedTuple

from sqlalchemy.orm import Session

from api.access import Caller
from api.evaluation.compared import Flip, compare_runs
from api.evaluation.comparison import Paired
from api.evaluation.noise import ClassNoise, class_noise
from api.evaluation.reports import (
    RunReport,
    figures_of,
    find_report,
    image_rows,
    out_of_fold,
)
from api.evaluation.schemas import (
    ClassChangeView,
    ClassNoiseView,
    ComparisonView,
    ConfusedPair,
    ConfusionView,
    DiagnosisView,
    DifferenceView,
    FlipView,
    Guess,
    ImagesAsked,
    LeakView,
    MostConfused,
    NoiseView,
    PairedView,
    ReportImage,
    ReportView,
    SeedView,
    SpreadView,
)
from api.evaluation.seeds import apart, errors_by_seed
from api.paging import Page, make_page
from api.runs.records import read_curves
from bearloop.confusion import most_confused
from bearloop.contract.report import ReportRow, SplitName
from bearloop.diagnosis import diagnose, too_small
from bearloop.intervals import wilson
from bearloop.spread import in_words as spread_in_words
from bearloop.spread import judge, spread_of
from bearloop.store import Store


class Links(NamedTuple):
    """Where an image's pictures are."""

    thumbnail: str
    content: str


def picture_links(project: str, dataset: str, sha256: str) -> Links:
    """Return the paths of an image's thumbnail and of its original bytes."""
    image = f"/v1/projects/{project}/datasets/{dataset}/images/{sha256}"
    return Links(f"{image}/thumbnail", f"{image}/content")


def show_report(session: Session, caller: Caller, run: int) -> ReportView:
    """Show the run's figures."""
    report = find_report(session, caller, run)
    valid = report.summary.splits.get("valid")
    return ReportView(
        run=run,
        dataset=report.dataset.name,
        version=report.version.number,
        classes=_class_list(report),
        train_on=report.train_on,
        twin=report.twin,
        splits=report.summary.splits,
        conflicts=report.summary.conflicts,
        too_small=None if valid is None else too_small(valid.error),
    )


def show_confusion(
    session: Session, caller: Caller, run: int, *, split: SplitName | None
) -> ConfusionView:
    """Show the confusion matrix of a split."""
    report = find_report(session, caller, run)
    chosen, figures = figures_of(report, split)
    matrix = [list(row) for row in figures.confusion]
    return ConfusionView(run=run, split=chosen, classes=_class_list(report), matrix=matrix)


def show_most_confused(
    session: Session, caller: Caller, run: int, *, split: SplitName | None, least: int
) -> MostConfused:
    """Show the pairs of classes that are confused `least` times or more."""
    report = find_report(session, caller, run)
    chosen, figures = figures_of(report, split)
    matrix = figures.confusion
    totals = dict(zip(report.summary.classes, map(sum, matrix), strict=True))
    pairs = [
        ConfusedPair(
            label=report.names[pair.label],
            predicted=report.names[pair.predicted],
            count=pair.images,
            share=wilson(pair.images, totals[pair.label]),
        )
        for pair in most_confused(report.summary.classes, matrix, least=least)
    ]
    return MostConfused(run=run, split=chosen, pairs=pairs)


def list_images(
    session: Session, store: Store, caller: Caller, *, run: int, asked: ImagesAsked
) -> Page[ReportImage]:
    """List the run's images in one of its two orders."""
    report = find_report(session, caller, run)
    rows = image_rows(store, report, **asked.model_dump())
    return make_page(
        rows,
        limit=asked.limit,
        key=lambda row: [row.rank],
        item=lambda row: _image(report, caller, row),
    )


def show_noise(session: Session, store: Store, caller: Caller, *, run: int) -> NoiseView:
    """Estimate each class's wrong labels."""
    report = find_report(session, caller, run)
    found = class_noise(out_of_fold(store, report), list(report.summary.classes))
    return NoiseView(run=run, classes=[_noise(report, one) for one in found])


def show_diagnosis(session: Session, store: Store, caller: Caller, *, run: int) -> DiagnosisView:
    """Name what went wrong with the run, by its curves and its error on the valid images."""
    report = find_report(session, caller, run)
    curves = read_curves(session, caller, run, store=store)
    valid = report.summary.splits.get("valid")
    if valid is None:
        return DiagnosisView(run=run, findings=[])
    found = diagnose(curves, classes=len(report.summary.classes), error=valid.error)
    return DiagnosisView(run=run, findings=list(found))


def show_spread(
    session: Session, caller: Caller, run: int, *, split: SplitName | None
) -> SpreadView:
    """Show how far the seeds of the run's version and recipe lie apart."""
    report = find_report(session, caller, run)
    chosen, _ = figures_of(report, split)
    seeds = errors_by_seed(session, report, chosen)
    spread = spread_of([one.error.value for one in seeds])
    shown = [SeedView(**one._asdict()) for one in seeds]
    return SpreadView(
        run=run, split=chosen, seeds=shown, spread=spread, words=spread_in_words(spread)
    )


def show_comparison(
    session: Session, store: Store, caller: Caller, *, a: int, b: int
) -> ComparisonView:
    """Compare run a with run b on the images that both were measured on."""
    report_a, report_b = find_report(session, caller, a), find_report(session, caller, b)
    found = compare_runs(store, report_a, report_b)
    under = found.cleaned_labels
    verdict = judge(
        under.difference.value,
        ends=(under.difference.low, under.difference.high),
        images=under.images,
        flipped=under.fixed + under.broken,
        apart=apart(session, (report_a, report_b), found.split),
    )
    return ComparisonView(
        a=a,
        b=b,
        split=found.split,
        images=found.images,
        only_a=found.only_a,
        only_b=found.only_b,
        verdict=verdict,
        relabelled=found.relabelled,
        old_labels=_paired(report_b, found.old_labels),
        cleaned_labels=_paired(report_b, found.cleaned_labels),
        fixed=[_flip(report_b, caller, flip) for flip in found.fixed],
        broken=[_flip(report_b, caller, flip) for flip in found.broken],
    )


def _class_list(report: RunReport) -> list[str]:
    return [report.names[class_id] for class_id in report.summary.classes]


def _image(report: RunReport, caller: Caller, row: ReportRow) -> ReportImage:
    names = report.names
    links = picture_links(caller.project, report.dataset.name, row.sha256)
    top = zip(row.top_classes, row.top_probabilities, strict=True)
    return ReportImage(
        rank=row.rank,
        sha256=row.sha256,
        split=row.split,
        label=None if row.label is None else names[row.label],
        predicted=names[row.predicted],
        confidence=row.confidence,
        p_label=row.p_label,
        loss=row.loss,
        label_issue=row.label_issue,
        top=[Guess(name=names[class_id], probability=share) for class_id, share in top],
        oof_predicted=names[row.oof_predicted],
        oof_p_label=row.oof_p_label,
        thumbnail=links.thumbnail,
        content=links.content,
    )


def _noise(report: RunReport, found: ClassNoise) -> ClassNoiseView:
    leaks = [
        LeakView(to=report.names[leak.to], images=leak.images, share=leak.share)
        for leak in found.leaks
    ]
    return ClassNoiseView(
        label=report.names[found.label],
        images=found.images,
        wrong=found.wrong,
        shape=found.shape,
        leaks=leaks,
    )


def _paired(report: RunReport, found: Paired) -> PairedView:
    return PairedView(
        images=found.images,
        error_a=found.error_a,
        error_b=found.error_b,
        difference=DifferenceView(**found.difference._asdict()),
        p=found.p,
        fixed=found.fixed,
        broken=found.broken,
        classes=[
            ClassChangeView(
                label=report.names[change.label], error_a=change.error_a, error_b=change.error_b
            )
            for change in found.classes
        ],
    )


def _flip(report: RunReport, caller: Caller, flip: Flip) -> FlipView:
    links = picture_links(caller.project, report.dataset.name, flip.sha256)
    return FlipView(
        sha256=flip.sha256,
        label=report.names[flip.label],
        predicted_a=report.names[flip.predicted_a],
        predicted_b=report.names[flip.predicted_b],
        thumbnail=links.thumbnail,
        content=links.content,
    )
