"""The parent of a run's processes: torchrun starts them, and of their ends it makes the job's one.

A process that ends on purpose writes how into a file and exits with 0, so that to torchrun only a
crash is a failure: it then ends the others. Each node has a torchrun of its own, and only the
processes know those of other nodes: a pod whose processes have ended waits for no other pod.
"""

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bearloop.contract.jobs import ExitCode
from bearloop.contract.runs import RunSpec
from trainer.settings import NodeSettings, read_node, share_cores

CRASHED: Final = 1
log = logging.getLogger(__name__)


def launch(spec: RunSpec, arguments: Sequence[str], *, name: str) -> int:
    """Start this node's processes of the run, wait, and return the exit code of the job's pod.

    SIGTERM goes on to the processes, which leave together after a checkpoint.
    """
    node = read_node()
    processes = spec.ranks if node.master is None else max(1, spec.gpus)
    share_cores(processes)
    with tempfile.TemporaryDirectory(prefix="bearloop-ranks-") as folder:
        ends = Path(folder, "ends")
        ends.mkdir()
        config = _config(node, processes=processes, name=name, logs=Path(folder))
        try:
            elastic_launch(config, sys.executable)("-m", "trainer.rank", str(ends), *arguments)
        except SignalException as error:
            log.warning("asked to leave: %s", error)
        except ChildFailedError as error:
            log.error("a process of the run crashed: %s", error)
        return outcome([int(end.read_text()) for end in ends.iterdir()], processes=processes)


def outcome(ends: Sequence[int], *, processes: int) -> int:
    """Make one exit code of those that the processes wrote; one that wrote none has crashed."""
    if ExitCode.input_at_fault in ends:
        return ExitCode.input_at_fault
    if len(ends) < processes:
        return CRASHED
    return max(ends, default=CRASHED)


def _config(node: NodeSettings, *, processes: int, name: str, logs: Path) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        # The whole job is launched anew: all go on from one checkpoint.
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
        # Between SIGTERM and SIGKILL; the pod's own grace is mostly shorter.
        shutdown_timeout=int(node.timeout.total_seconds()),
    )
