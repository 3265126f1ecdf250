"""The dashboard's page and assets: negotiation, caching, policy, and what takes its place."""

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tailrace_api.routes import dashboard
from tailrace_api.routes.dashboard import DashboardRoutes
from tailrace_api.web.operation import collect_operations
from tailrace_api.web.problems import EXCEPTION_HANDLERS
from tailrace_api.web.site import Site, read_site

_BROWSER = {"accept": "text/html,*/*;q=0.8", "accept-encoding": "gzip, br"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Read a site of one page and one script, each in three codings."""
    (tmp_path / "assets").mkdir()
    for name, content in (("index.html", b"<html>page"), ("assets/main-1a2b.js", b"run()")):
        for suffix, body in (("", content), (".br", b"br " + content), (".gz", b"gz " + content)):
            (tmp_path / f"{name}{suffix}").write_bytes(body)
    return read_site(tmp_path)


def _client(monkeypatch: pytest.MonkeyPatch, site: Site | None) -> httpx.AsyncClient:
    monkeypatch.setattr(dashboard, "find_site", lambda: site)
    operations = collect_operations(DashboardRoutes())
    app = Starlette(routes=operations, exception_handlers=dict(EXCEPTION_HANDLERS))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, br", "br"),
        ("GZIP;q=0.5", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br; q=0.000", "identity"),
        ("zstd", "identity"),
        ("", "identity"),
    ],
)
def test_the_best_accepted_coding_is_sent(site: Site, accepted: str, coding: str) -> None:
    assert site.page.best_for(accepted) == coding


async def test_a_browser_gets_the_page_and_revalidates_it(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    """With any query, under a policy that allows no inline code."""
    async with _client(monkeypatch, site) as http:
        page = await http.get("/?utm_source=mail&at=1&at=2", headers=_BROWSER)
        assert page.status_code == 200
        assert page.headers["content-encoding"] == "br"
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        assert "unsafe" not in page.headers["content-security-policy"]
        again = await http.get("/", headers={**_BROWSER, "if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_an_asset_is_kept_for_good(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """Its name changes with its content."""
    async with _client(monkeypatch, site) as http:
        script = await http.get("/assets/main-1a2b.js", headers={"accept-encoding": "identity"})
        missing = await http.get("/assets/main-0000.js")
        packed = await http.get("/assets/main-1a2b.js.br")
    assert script.content == b"run()"
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    assert (missing.status_code, packed.status_code) == (404, 404)
    assert "immutable" not in missing.headers.get("cache-control", "")


async def test_the_index_stays_json_for_other_clients(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    async with _client(monkeypatch, site) as http:
        index = await http.get("/")
    assert index.json()["api"] == "/api/v1"


async def test_without_a_build_the_page_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _client(monkeypatch, None) as http:
        page = await http.get("/", headers=_BROWSER)
        asset = await http.get("/assets/main-1a2b.js")
    assert "npm run dashboard --prefix clients/web" in page.text
    assert asset.status_code == 404
