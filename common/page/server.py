"""The Gradio app and the server that it runs in."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

# Before the first import of Gradio, which would tell its makers of every start.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from gradio.route_utils import MultiPartException, upload_fn
from gradio.routes import file_upload_statuses
from gradio.themes.utils.fonts import LocalFont
from starlette.routing import Mount

from common.bundles import find_bundle
from common.errors import SettingError
from common.examine import DISCLAIMER
from common.examine.table import FUNDUS, OCT, SCALES
from common.page.cards import results_html
from common.page.runs import MEGABYTE, Outcome, Runner, check_limit
from common.page.workspace import Workspace
from common.phantoms import fundus_phantom, oct_phantom
from common.pictures import encode_picture

_HERE = Path(__file__).parent
_LOGGER = logging.getLogger(__name__)
_SWEEP_SECONDS = 60
_QUEUE, _SESSIONS = 100, 500
_HEADER = """<header class="rb-header"><h1>Retina bundles</h1>
<p>Masks, biomarkers and probabilities of fundus photos and OCT B-scans. Your files stay on the computer that serves
this page, and are removed when you leave it.</p>
<p class="rb-disclaimer">{disclaimer}</p></header>"""


@dataclass(frozen=True)
class PageSettings:
    """How the page is served.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        bundles: names of the bundles that can be chosen; None for all that have weights.
        device: ``cpu`` or ``cuda``; None for a GPU where there is one.
        max_files: how many files one run may have.
        max_megabytes: how large each may be.
        keep_minutes: how long files stay of a visitor who is there but asks for nothing.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    bundles: Sequence[str] | None = None
    device: str | None = None
    max_files: int = 20
    max_megabytes: float = 50
    keep_minutes: float = 60


def _address(path: Path) -> str:
    """Where the browser finds a file of the workspace, relative to the page."""
    return f"gradio_api/file={quote(path.as_posix())}"


def _scale(label: str, info: str) -> gr.Number:
    return gr.Number(label=label, info=info, value=0, minimum=0, min_width=140)


def _label(bundle: str) -> str:
    """The name of a bundle for a person."""
    metadata = find_bundle(bundle) / "configs" / "metadata.json"
    return str(json.loads(metadata.read_text(encoding="utf-8"))["name"])


def _message(text: str) -> str:
    return f'<div class="rb-message rb-error" role="alert">{escape(text)}</div>'


def _draw_examples(folder: Path) -> tuple[Path, Path, Path]:
    """Draw what can be taken as an example, a photo and a B-scan, and the icon of the page."""
    folder.mkdir()
    pictures = {
        "fundus_phantom.png": fundus_phantom(768, 960, seed=3, exudates=3, haemorrhages=4).photo,
        "oct_phantom.png": oct_phantom(seed=1).scan,
        "icon.png": fundus_phantom(64, 64, seed=3).photo,
    }
    for name, picture in pictures.items():
        (folder / name).write_bytes(encode_picture(picture, ".png"))
    photo, scan, icon = (folder / name for name in pictures)
    return photo, scan, icon


class _Page:
    """What the page does when something is asked of it.

    Args:
        runner: examines.
        workspace: keeps the files.
    """

    def __init__(self, runner: Runner, workspace: Workspace) -> None:
        self.runner = runner
        self.workspace = workspace
        self.photo, self.scan, self.icon = _draw_examples(workspace.root / "examples")

    def take(self, files: list[str] | None, request: gr.Request) -> tuple[Any, str]:
        """Check what was uploaded at once; files that cannot be taken are removed."""
        self.workspace.claim(request.session_hash, files or [])
        try:
            self.runner.check(files or [])
        except SettingError as error:
            self.workspace.claim(request.session_hash, [])
            return gr.update(value=None), _message(str(error))
        return gr.skip(), ""

    def show(
        self,
        files: list[str] | None,
        bundles: list[str],
        pixel_size: float | None,
        axial_scale: float | None,
        lateral_scale: float | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - how Gradio is asked for it
    ) -> tuple[str, str, Any, Any]:
        """Examine the uploaded files: message, results, archive and table."""
        try:
            scales = (pixel_size, axial_scale, lateral_scale)
            outcome = self._run(files, bundles, scales, request.session_hash, progress)
        except SettingError as error:
            return _message(str(error)), "", gr.update(visible=False), gr.update(visible=False)
        said = ""
        if outcome.failed:
            count = len(outcome.cards)
            said = _message(f"Not all could be done on {outcome.failed} of {count} pictures; below it is said why.")
        archive = gr.update(value=outcome.archive, visible=outcome.table is not None)
        table = gr.update(value=outcome.table, visible=outcome.table is not None)
        return said, results_html(outcome.cards, _address), archive, table

    def examine_by_api(
        self,
        files: list[str],
        bundles: list[str],
        pixel_size: float | None,
        axial_scale: float | None,
        lateral_scale: float | None,
        request: gr.Request,
    ) -> tuple[list[dict[str, Any]], str]:
        """Examine fundus photos or OCT B-scans.

        Args:
            files: the photos or B-scans.
            bundles: names of the bundles to run.
            pixel_size: micrometres per pixel of fundus photos, 0 where it is not known.
            axial_scale: micrometres per row of B-scans, 0 where it is not known.
            lateral_scale: micrometres per column of B-scans, 0 where it is not known.
            request: who asks; Gradio gives it.

        Returns:
            For each file its name, modality, columns of results.csv and why it failed, if it did; and a zip file with
            masks, overlays and tables.
        """
        try:
            outcome = self._run(files, bundles, (pixel_size, axial_scale, lateral_scale), request.session_hash, None)
        except SettingError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return [
            {"image": card.image, "modality": card.modality, "results": dict(card.row), "failure": card.failure or None}
            for card in outcome.cards
        ], str(outcome.archive)

    def _run(
        self,
        files: Sequence[str] | None,
        bundles: Sequence[str],
        scales: Sequence[float | None],
        session: str,
        progress: gr.Progress | None,
    ) -> Outcome:
        self.workspace.claim(session, files or [])
        names = [name for names in SCALES.values() for name in names]
        known = {name: scale or None for name, scale in zip(names, scales, strict=True)}

        def tell(done: int, count: int, name: str) -> None:
            if progress is not None:
                progress((done, count), desc=name, unit="files")

        with self.workspace.run_folder(session) as folder:
            return self.runner.run(files or [], bundles, known, folder, tell)

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a visitor who has gone."""
        self.workspace.end(request.session_hash)

    def take_photo(self, request: gr.Request) -> tuple[list[str], str]:
        """Put the example photo in the place of the uploaded files."""
        self.workspace.claim(request.session_hash, [])
        return [str(self.photo)], ""

    def take_scan(self, request: gr.Request) -> tuple[list[str], str]:
        """Put the example B-scan in the place of the uploaded files."""
        self.workspace.claim(request.session_hash, [])
        return [str(self.scan)], ""

    def clear(self, request: gr.Request) -> tuple[Any, str, str, Any, Any]:
        """Remove all that the visitor has, at once."""
        self.workspace.end(request.session_hash)
        return None, "", "", gr.update(visible=False), gr.update(visible=False)


def _layout(page: _Page) -> gr.Blocks:
    limit = f"{page.runner.max_bytes / MEGABYTE:g}"
    with gr.Blocks(title="Retina bundles", analytics_enabled=False) as blocks:
        gr.HTML(_HEADER.format(disclaimer=DISCLAIMER), apply_default_css=False)
        with gr.Row(elem_classes="rb-main"):
            with gr.Column(scale=2, min_width=300):
                files = gr.File(label="Fundus photos or OCT B-scans", file_count="multiple", height=180)
                gr.HTML(
                    f'<p class="rb-hint">Up to {page.runner.max_files} files of at most {limit} MB: jpg, png, tif, '
                    "bmp, ppm, gif; OCT also as Duke .mat.</p>",
                    apply_default_css=False,
                )
                with gr.Row():
                    photo = gr.Button("Example photo", size="sm", min_width=120)
                    scan = gr.Button("Example B-scan", size="sm", min_width=120)
                bundles = gr.CheckboxGroup(
                    [(_label(name), name) for name in page.runner.bundles],
                    value=page.runner.bundles,
                    label="Measure",
                    elem_id="measures",
                )
                with gr.Group(visible=FUNDUS in page.runner.modalities):
                    pixel_size = _scale("Fundus photos: µm per pixel", "For lengths in µm; 0: not known.")
                with gr.Group(visible=OCT in page.runner.modalities), gr.Row(elem_id="scan-scales"):
                    axial_scale = _scale("B-scans: µm per row", "For thickness in µm; 0: not known.")
                    lateral_scale = _scale("B-scans: µm per column", "For the central millimetre; 0: not known.")
                run = gr.Button("Examine", variant="primary", elem_id="examine")
                clear = gr.Button("Remove my files", size="sm")
            with gr.Column(scale=5, min_width=300):
                message = gr.HTML(apply_default_css=False, elem_id="message")
                with gr.Row(elem_id="downloads"):
                    archive = gr.DownloadButton(
                        "All results (zip)", visible=False, size="md", min_width=150, elem_id="archive"
                    )
                    table = gr.DownloadButton("Table (csv)", visible=False, size="md", min_width=150, elem_id="table")
                results = gr.HTML(
                    value='<div class="rb-empty">Choose photos or B-scans, or an example, and press Examine.</div>',
                    js_on_load=(_HERE / "page.js").read_text(encoding="utf-8"),
                    apply_default_css=False,
                    elem_id="results",
                )
        asked = [files, bundles, pixel_size, axial_scale, lateral_scale]
        shown = [message, results, archive, table]
        private: dict[str, Any] = {"api_visibility": "private"}
        quick: dict[str, Any] = {**private, "concurrency_limit": None, "show_progress": "hidden"}
        networks: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "networks"}
        files.upload(page.take, files, [files, message], **quick)
        photo.click(page.take_photo, None, [files, message], **quick)
        scan.click(page.take_scan, None, [files, message], **quick)
        running = run.click(page.show, asked, shown, **private, **networks, show_progress_on=results)
        clear.click(page.clear, None, [files, *shown], **quick, cancels=running)
        gr.Button(visible=False).click(
            page.examine_by_api,
            asked,
            [gr.JSON(visible=False, label="results"), gr.File(visible=False, label="archive")],
            api_name="examine",
            **networks,
        )
        blocks.unload(page.leave)
    blocks.queue(max_size=_QUEUE)
    blocks.state_session_capacity = _SESSIONS
    return blocks


async def sweep_always(workspace: Workspace, seconds: float) -> None:
    """Remove what nobody has asked for, again and again; a sweep that fails is logged, and the next one tries again.

    Args:
        workspace: keeps the files.
        seconds: time between two sweeps.
    """
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(workspace.sweep)
        except Exception:
            _LOGGER.exception("Files that nobody asks for could not be removed; it is tried again in %g s", seconds)


def build_app(settings: PageSettings, root: Path) -> FastAPI:
    """Make the app: the page, and its endpoint ``/examine`` for Gradio's client.

    Args:
        settings: how the page is served.
        root: an empty folder for everything that visitors upload and get; whoever made it removes it.

    Returns:
        The app, with all networks loaded.

    Raises:
        SettingError: a setting is wrong.
    """
    check_limit("keep_minutes", settings.keep_minutes)
    runner = Runner(settings.bundles, settings.device, settings.max_files, settings.max_megabytes)
    workspace = Workspace(root, 60 * settings.keep_minutes)
    os.environ["GRADIO_TEMP_DIR"] = str(workspace.root)
    gr.routes.DEFAULT_TEMP_DIR = str(workspace.root)  # read from the environment when Gradio was imported
    page = _Page(runner, workspace)

    @asynccontextmanager
    async def sweep(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(sweep_always(workspace, _SWEEP_SECONDS))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = FastAPI(lifespan=sweep, docs_url=None, redoc_url=None, openapi_url=None)
    most_bytes = (runner.max_files + 1) * runner.max_bytes

    @app.post("/gradio_api/upload")
    async def upload(request: Request, upload_id: str | None = None) -> Response:
        """Gradio's own route, but for a folder of its own for every upload: there, equal files share one."""
        if int(request.headers.get("content-length", 0)) > most_bytes:
            return PlainTextResponse(f"More than {most_bytes} bytes are too many at once.", status_code=413)
        try:
            paths, _, _ = await upload_fn(
                request,
                workspace.upload_folder(),
                runner.max_bytes,
                upload_id,
                upload_progress=file_upload_statuses if upload_id else None,
            )
        except MultiPartException as error:
            too_large = "maximum allowed size" in error.message
            return PlainTextResponse(error.message, status_code=413 if too_large else 400)
        return JSONResponse(paths)

    blocks = _layout(page)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=runner.max_bytes,
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        show_error=False,
        favicon_path=str(page.icon),
        # Weight 600 of this font is there only in part.
        theme=gr.themes.Default(
            primary_hue="teal",
            secondary_hue="teal",
            neutral_hue="slate",
            font=[LocalFont("Source Sans Pro", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        ),
        # As a head, since Gradio lets a style sheet change nothing outside the blocks.
        head=f"<style>{(_HERE / 'page.css').read_text(encoding='utf-8')}</style>",
    )
    # Without it, Gradio takes any path of this computer for that of an uploaded file.
    blocks.has_launched = True
    app.state.stop_event = next(route.app for route in app.routes if isinstance(route, Mount)).stop_event
    return app


class PageServer(uvicorn.Server):
    """A server of the page that stops at once, though every open page keeps a connection.

    Args:
        app: of `build_app`.
        **options: of `uvicorn.Config`.
    """

    def __init__(self, app: FastAPI, **options: Any) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, **options))
        self._stop_event = app.state.stop_event

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of the open pages, then stop."""
        self._stop_event.set()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError, TypeError) as error:
        raise SettingError(
            f"The page cannot be served at {host}, port {port} ({error}): choose others with --host and --port."
        ) from error


def serve(settings: PageSettings) -> None:
    """Serve the page until the process is told to stop.

    Args:
        settings: how the page is served.

    Raises:
        SettingError: a setting is wrong, or the port is taken.
    """
    # The folder of uploads is removed on SIGTERM, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        _listen(settings.host, settings.port) as listener,
        tempfile.TemporaryDirectory(prefix="retina_page_") as root,
        suppress(KeyboardInterrupt),
    ):
        print("Loading the bundles", file=sys.stderr)
        app = build_app(settings, Path(root))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"The page is at http://{host}:{listener.getsockname()[1]} (Ctrl+C stops it).", flush=True)
        PageServer(app).run(sockets=[listener])
