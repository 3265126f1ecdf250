"""The distributions build from the sources alone and install beside other software."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.processes.required_tools import skip_or_fail

ROOT = Path(__file__).parents[3]
_DASHBOARD = "clients/web/packages/dashboard/dist"
DISTRIBUTIONS = ("tailrace", "tailrace_api", "tailrace_shared", "tailrace_worker")


class Builder:
    """Runs uv outside the workspace, whose pins would apply to what it installs."""

    def __init__(self, folder: Path) -> None:
        self.dist = folder / "dist"
        self._folder = folder
        self._uv = os.environ.get("UV") or shutil.which("uv") or ""
        if not self._uv:
            skip_or_fail("uv", "python3 -m pip install uv")

    def uv(self, *arguments: str, folder: Path | None = None) -> str:
        result = subprocess.run(
            [self._uv, *arguments],
            cwd=folder or self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def environment(self, name: str, *requirements: str) -> Path:
        """Install requirements into a new environment; return its interpreter."""
        python = self._folder / name / "bin" / "python"
        self.uv("venv", "--quiet", "--python", sys.executable, str(self._folder / name))
        options = ("--quiet", "--python", str(python), "--find-links", str(self.dist))
        self.uv("pip", "install", *options, *requirements)
        return python


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Build all distributions from a copy of the tracked files, in a path with a space."""
    folder = tmp_path_factory.mktemp("clean checkout")
    checkout = folder / "sources"
    for path in _sources():
        if not path.startswith("tests/"):
            (checkout / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, checkout / path)
    if (built := ROOT / _DASHBOARD).is_dir():
        # The installation of this checkout has built it; another build would take half a minute.
        shutil.copytree(built, checkout / _DASHBOARD)
    builder = Builder(folder)
    builder.uv("build", "--quiet", "--all-packages", "-o", str(builder.dist), folder=checkout)
    yield builder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_has_the_same_files_from_a_checkout_and_from_an_sdist(
    builder: Builder, name: str, tmp_path: Path
):
    [wheel] = builder.dist.glob(f"{name}-*.whl")
    [sdist] = builder.dist.glob(f"{name}-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.iterdir()
    builder.uv("build", "--quiet", "--wheel", "-o", str(tmp_path / "again"), folder=unpacked)
    [rebuilt] = (tmp_path / "again").glob("*.whl")
    assert _names(rebuilt) == _names(wheel)
    assert any(path.endswith("/py.typed") for path in _names(wheel))


def test_the_client_carries_the_examples(builder: Builder):
    [wheel] = builder.dist.glob("tailrace-*.whl")
    packed = {path for path in _names(wheel) if path.startswith("tailrace/examples/")}
    examples = (path for path in _sources() if path.startswith("examples/"))
    assert packed == {f"tailrace/{path}" for path in examples}


def test_the_api_carries_the_dashboard(builder: Builder):
    [wheel] = builder.dist.glob("tailrace_api-*.whl")
    packed = {path for path in _names(wheel) if path.startswith("tailrace_api/web/dashboard/")}
    if not packed:
        skip_or_fail("the dashboard", "npm ci --prefix clients/web, then npm run dashboard")
    built = ROOT / _DASHBOARD
    files = (path.relative_to(built) for path in built.rglob("*") if path.is_file())
    assert packed == {f"tailrace_api/web/dashboard/{path.as_posix()}" for path in files}


def test_the_broker_installs_without_the_libraries_of_the_engine(builder: Builder):
    python = builder.environment("broker", "tailrace-worker")
    missing = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
    engine = ["cel", "httpx", "jsonschema", "starlette", "uvicorn"]
    assert _run(python, missing.format(engine)) == "[]"
    script = "from tailrace_worker.broker import NatsBroker; print(NatsBroker().__class__.__name__)"
    assert _run(python, script) == "NatsBroker"


def test_everything_installs_beside_older_libraries(builder: Builder):
    """The lower bounds of the published ranges are versions that work."""
    python = builder.environment(
        "oldest",
        "tailrace[server]",
        # One library of each service, at its oldest accepted version.
        "starlette<1.1",
        "msgspec<0.21",
        "nats-py<2.13",
        "dramatiq<2.3",
    )
    services = "import tailrace_api.__main__, tailrace_worker.__main__, tailrace.__main__; print(1)"
    assert _run(python, services) == "1"
    help_text = subprocess.check_output([str(python.with_name("tailrace")), "--help"], text=True)
    assert "up" in help_text


def _sources() -> list[str]:
    """Return what Git tracks or would add, without what was deleted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    return [path for path in listed if (ROOT / path).is_file()]


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def _run(python: Path, script: str) -> str:
    return subprocess.check_output([str(python), "-c", script], text=True).strip()
