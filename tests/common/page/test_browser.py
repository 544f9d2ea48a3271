"""The page as a visitor sees it: a real Chromium against the running app."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect

if TYPE_CHECKING:
    from tests.common.page.conftest import RunningPage

PATIENCE = 60_000
WIDTHS = {"desktop": 1280, "phone": 390}
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def visitor(page: RunningPage, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A browser window with the page; nothing but the page itself may be asked for."""
    width = getattr(request, "param", WIDTHS["desktop"])
    context = browser.new_context(viewport={"width": width, "height": 844}, accept_downloads=True)
    window = context.new_page()
    window.set_default_timeout(PATIENCE)
    elsewhere: list[str] = []
    window.on("request", lambda asked: elsewhere.append(asked.url))
    window.goto(page.url)
    yield window
    context.close()
    assert [url for url in elsewhere if not url.startswith((page.url, "data:", "blob:"))] == []
    page.wait_for_no_files()


def choose(window: Page, files: Sequence[Path]) -> None:
    window.locator("input[type=file]").set_input_files(list(files))


def upload(window: Page, files: Sequence[Path]) -> None:
    choose(window, files)
    expect(window.locator("tr.file")).to_have_count(len(files))


def examine(window: Page) -> None:
    window.get_by_role("button", name="Examine").click()
    expect(window.locator("#archive")).to_be_visible(timeout=PATIENCE)


def download(window: Page, element: str) -> bytes:
    with window.expect_download() as started:
        window.locator(element).click()
    return started.value.path().read_bytes()


@pytest.mark.parametrize("visitor", WIDTHS.values(), ids=WIDTHS, indirect=True)
def test_photo_is_examined(
    visitor: Page, page: RunningPage, photos: list[Path], inferred: Callable[[Path], bytes]
) -> None:
    upload(visitor, photos)
    examine(visitor)
    cards = visitor.locator(".rb-card")
    expect(cards).to_have_count(2)
    expect(cards.nth(0)).to_be_visible()
    expect(cards.nth(1)).to_be_hidden()
    expect(cards.nth(0)).to_contain_text("Vessel density")
    picture, layer, heat = cards.nth(0).locator(".rb-stage img").all()
    for image in (picture, layer, heat):
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") == 150

    expect(heat).to_be_hidden()
    expect(cards.nth(0)).to_contain_text("Saliency (DR) (Grad-CAM, coarse) shows what speaks for DR")
    cards.nth(0).get_by_label("Saliency (DR)").check()
    expect(heat).to_be_visible()
    expect(layer).to_be_visible()

    cards.nth(0).get_by_label("Opacity").fill("20")
    expect(layer).to_have_css("opacity", "0.2")
    cards.nth(0).get_by_label("Vessels").uncheck()
    expect(layer).to_be_hidden()

    visitor.get_by_role("tab", name=photos[1].name).click()
    expect(cards.nth(1)).to_be_visible()
    expect(cards.nth(0)).to_be_hidden()
    assert visitor.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    with zipfile.ZipFile(io.BytesIO(download(visitor, "#archive"))) as archive:
        for photo in photos:
            assert archive.read(f"masks/{photo.stem}_vessel.png") == inferred(photo)
        assert archive.read("results.csv") == download(visitor, "#table")
        rows = list(csv.DictReader(io.StringIO(archive.read("results.csv").decode("utf-8"))))
    assert [row["image"] for row in rows] == [photo.name for photo in photos]
    assert page.files()


def test_scales(visitor: Page) -> None:
    """The scale of the B-scans is that of the B-scans alone."""
    visitor.get_by_label("B-scans: µm per row").fill("3.87")
    visitor.get_by_label("B-scans: µm per column").fill("11.5")
    visitor.get_by_label("Fundus photos: µm per pixel").fill("8")
    visitor.get_by_role("button", name="Example B-scan").click()
    expect(visitor.locator("tr.file")).to_have_count(1)
    examine(visitor)
    expect(visitor.locator(".rb-card")).to_contain_text("Thickness in µm")
    expect(visitor.locator(".rb-card")).not_to_contain_text("was not used")
    (row,) = csv.DictReader(io.StringIO(download(visitor, "#table").decode("utf-8")))
    assert (row["axial_scale_um"], row["lateral_scale_um"], row["pixel_size_um"]) == ("3.87", "11.5", "")


def test_example(visitor: Page) -> None:
    visitor.get_by_role("button", name="Example photo").click()
    expect(visitor.locator("tr.file")).to_have_count(1)
    examine(visitor)
    expect(visitor.locator(".rb-card h3")).to_contain_text("fundus_phantom.png")


def test_bad_files_are_told_of_and_the_page_lives_on(visitor: Page, photos: list[Path], tmp_path: Path) -> None:
    no_image, text, large = tmp_path / "no_image.jpg", tmp_path / "<b>letter.txt", tmp_path / "large.png"
    no_image.write_bytes(b"this is no image")
    text.write_text("nor is this", encoding="utf-8")
    large.write_bytes(bytes(1_200_000))
    message = visitor.locator("#message")

    visitor.get_by_role("button", name="Examine").click()
    expect(message).to_contain_text("There is no file yet")

    upload(visitor, [no_image, text])
    visitor.get_by_role("button", name="Examine").click()
    expect(visitor.locator(".rb-card .rb-message")).to_have_count(2, timeout=PATIENCE)
    expect(visitor.locator("#results")).to_contain_text("no_image.jpg: is not an image of a known format")
    expect(visitor.locator("#results")).to_contain_text("the ending '.txt' is none of")
    expect(visitor.locator("#archive")).to_be_hidden()

    visitor.get_by_role("button", name="Remove my files").click()
    expect(visitor.locator("tr.file, .rb-card")).to_have_count(0)
    choose(visitor, [*photos, *photos])
    expect(message).to_contain_text("4 files are too many at once: choose at most 3")

    expect(visitor.locator("tr.file")).to_have_count(0)

    choose(visitor, [large])
    expect(visitor.get_by_test_id("toast-body")).to_contain_text("maximum allowed size of 1.0 Mb")

    visitor.reload()
    upload(visitor, photos[:1])
    examine(visitor)
    expect(visitor.locator(".rb-card")).to_have_count(1)
