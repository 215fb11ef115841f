"""What ends a run on purpose: an input at fault, or a signal to leave."""

from bearloop.contract.jobs import Problem


class InputError(Exception):
    """The run's input is at fault and no retry can help; ends the job with exit code 42."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        value: str | None = None,
        way_out: str | None = None,
    ) -> None:
        super().__init__(detail if way_out is None else f"{detail}; {way_out}")
        self.problem = Problem(code=code, detail=detail, field=field, value=value, way_out=way_out)


class InterruptedRunError(BaseException):
    """The machine asked the run to leave (SIGTERM); ends the job with exit code 75.

    Like KeyboardInterrupt it's no Exception: no library may take it for a fault and go on.
    """
