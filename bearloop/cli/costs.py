"""What a run took, for people."""

from collections.abc import Iterator

from bearloop.cli.output import percent, print_table
from bearloop.client.views import CostView, RunView

GB = 2**30


def print_cost(run: RunView) -> None:
    """Print the run's time by stage, its speed, how busy its machines were, and its memory."""
    rows = [[f"seconds of {name}", f"{seconds:.1f}"] for name, seconds in _seconds(run)]
    if run.cost is not None:
        rows += _cost(run.cost)
    if rows:
        print_table(f"what run {run.number} took", rows, columns=["", ""])


def _seconds(run: RunView) -> Iterator[tuple[str, float]]:
    yield from (run.seconds or {}).items()
    if run.cost is not None:
        yield from ((f"fit stage {name}", seconds) for name, seconds in run.cost.stages.items())


def _cost(cost: CostView) -> list[list[str]]:
    gpu, on_gpu = cost.gpu_utilisation, cost.peak_gpu_memory
    figures = {
        "training images a second": _words(cost.images_per_second, "{:.1f}"),
        "GPU busy": _words(gpu, "{:.0%}"),
        "CPU cores busy": percent(cost.cpu_utilisation),
        "most memory": _words(cost.peak_memory / GB, "{:.2f} GiB"),
        "most GPU memory": _words(None if on_gpu is None else on_gpu / GB, "{:.2f} GiB"),
    }
    return [[name, words] for name, words in figures.items() if words]


def _words(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
