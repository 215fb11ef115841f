"""How often MLflow is called: by the checkpoint, not by the step."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from mlflow import MlflowClient

from tests.trainer.test_tracking import NOTHING, epoch, outcome, spec_of, step
from trainer.tracking import Tracker

Calls = list[str]


@pytest.fixture
def calls(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """What this process asks of the real server, which it reaches through one that counts."""
    seen: Calls = []

    class Counting(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            seen.append(self.path.rpartition("/mlflow/")[2].partition("?")[0])
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
            asked = Request(mlflow_server + self.path, body or None, headers, method=self.command)
            try:
                with urlopen(asked, timeout=60) as answer:
                    code, text = answer.status, answer.read()
            except HTTPError as error:
                code, text = error.code, error.read()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = _forward  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    yield seen
    server.shutdown()
    server.server_close()


def test_a_checkpoint_sends_its_steps_in_few_calls(calls: Calls) -> None:
    client = MlflowClient()
    found = client.get_experiment_by_name("counted")
    experiment = found.experiment_id if found else client.create_experiment("counted")
    run = str(client.create_run(experiment).info.run_id)
    tracker = Tracker(spec_of(run))
    calls.clear()
    tracker.start(device="cpu", precision="fp32", curves=NOTHING)
    assert calls.count("runs/log-batch") == 1
    assert len(calls) <= 5

    calls.clear()
    for number in range(1, 1201):
        tracker.log_step(step(number))
    tracker.log_epoch(epoch(1))
    assert calls == []
    tracker.flush()
    # 3 x 1,200 values of steps and 6 of the epoch, 900 a call.
    assert calls == ["runs/log-batch"] * 5

    calls.clear()
    tracker.finish(outcome())
    assert calls.count("runs/log-batch") == 1
