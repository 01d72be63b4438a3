"""The web server: addresses to documents, laid out as every other page is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from logitproof.documents import html
from logitproof.documents.document import Document
from logitproof.documents.section import Verdict
from logitproof.errors import ContractError
from logitproof.runs.ledger import Ledger
from logitproof.web import pages

SECURE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LIMIT = 500
"""Runs that a page lists."""


def application(ledger: Ledger, hosts: tuple[str, ...] = LOOPBACK) -> Starlette:
    """The pages over a history, which answers to these names of hosts and to no other."""

    def overview(request: Request) -> Response:
        return page(pages.overview(ledger.runs(limit=LIMIT)), live=tuple(pages.going_on(ledger.live())))

    def contract(request: Request) -> Response:
        runs = ledger.runs(request.path_params["name"], LIMIT)
        return page(pages.contract(runs), choose=[run.run_id for run in runs]) if runs else missing("no such contract")

    def run(request: Request) -> Response:
        recorded = ledger.find(request.path_params["run_id"])
        path = Path(recorded.folder) / "report.html"
        if _is_this_run(recorded.run_id, path):
            return HTMLResponse(path.read_text("utf-8"), headers=SECURE)
        return page(pages.run_page(recorded))

    def compare(request: Request) -> Response:
        names = [request.query_params.get(name, "") for name in ("before", "after")]
        if not all(names):
            return missing("name two runs: ?before=RUN&after=RUN")
        return page(pages.beside(*map(ledger.find, names)))

    def live(request: Request) -> Response:
        return JSONResponse(ledger.live(), headers=SECURE)

    def refused(request: Request, error: Exception) -> Response:
        return missing(str(error).splitlines()[0])

    routes = [
        Route("/", _threaded(overview)),
        Route("/contracts/{name:path}", _threaded(contract)),
        Route("/runs/{run_id}", _threaded(run)),
        Route("/compare", _threaded(compare)),
        Route("/live.json", _threaded(live)),
        Route("/favicon.ico", lambda request: Response(status_code=204)),
    ]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))] if hosts else []
    return Starlette(routes=routes, middleware=middleware, exception_handlers={ContractError: refused})


def page(document: Document, *, live: tuple[str, ...] | None = None, choose: list[str] | None = None) -> Response:
    """A document as a page of the site: a way back, two runs to choose, and fresh progress where a run goes on."""
    return HTMLResponse(html.whole(document, html.Site(tuple(choose or ()), live)), headers=SECURE)


def missing(text: str) -> Response:
    """A page that says what is not there."""
    document = Document("Not found", Verdict("NOTHING", text, "unsure"))
    return HTMLResponse(html.whole(document, html.Site()), status_code=404, headers=SECURE)


def _threaded(act: Callable[[Request], Response]) -> Callable[[Request], object]:
    """The database is asked in a thread, so that a slow answer holds up nobody else."""

    async def answer(request: Request) -> Response:
        return await run_in_threadpool(act, request)

    return answer


def _is_this_run(run_id: str, path: Path) -> bool:
    """Whether a folder still holds the page of this run."""
    verdict = path.with_name("verdict.json")
    return path.is_file() and verdict.is_file() and f'"{run_id}"' in verdict.read_text("utf-8")
