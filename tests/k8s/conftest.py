"""Fixtures for tests of the chart."""

import pytest

from harness.kubernetes.chart import Chart, helm_program


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    return Chart(helm_program(), tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="session", params=["helm3", "helm"])
def chart_of_each_helm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Chart:
    return Chart(helm_program(request.param), tmp_path_factory.mktemp("chart"))
