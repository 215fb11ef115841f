"""The chart's tests need Helm, and say so where it is missing."""

import pytest

from tests.chart.chart import HELM, PROFILES, Rendered, render


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest, helm_is_there: None) -> Rendered:
    """Each profile in turn."""
    return render(PROFILES[request.param])


@pytest.fixture(scope="session")
def helm_is_there() -> None:
    """Skip where Helm is missing."""
    if HELM is None:
        pytest.skip("there is no `helm` in PATH: install Helm 3.16 or newer")


@pytest.fixture
def evaluation(helm_is_there: None) -> Rendered:
    """The profile with everything in the chart."""
    return render(PROFILES["evaluation"])


@pytest.fixture
def production(helm_is_there: None) -> Rendered:
    """The profile of the default values."""
    return render(PROFILES["production"])


@pytest.fixture
def everything(helm_is_there: None) -> Rendered:
    """Every value set, every feature on."""
    return render(PROFILES["every-value"])
