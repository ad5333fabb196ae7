"""`report.html` in a real browser: at desktop and phone width, light and dark, without network."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.comparison_schema import Comparison
from orchestrator.report.contents import Report
from orchestrator.report.html import render_html
from orchestrator.report.tables import formats
from tests.pipeline import FinishedRun, judgement_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open pages in")

DESKTOP, PHONE = 1280, 360
# It is offered no network, and must not look for any.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def whole(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a finished run."""
    return write(finished_run.comparison, tmp_path_factory.mktemp("whole"))


def write(comparison: Comparison, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(render_html(Report(comparison, judgement_of(comparison))), encoding="utf-8")
    return path


Opener = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opener]:
    """Opens a report; whatever a page complains of fails the test."""
    contexts, complaints = [], []

    def open_report(path: Path, width: int = DESKTOP, scheme: str = "light") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url)
                if not request.url.startswith(("file:", "data:"))
                else None
            ),
        )
        page.goto(path.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_nothing_leaves_the_page_sideways(
    width: int, scheme: str, opened: Opener, whole: Path
) -> None:
    page = opened(whole, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A wide table scrolls in its own box; everything else is within the window.
    outside = page.evaluate(
        """width => [...document.querySelectorAll('main *')].filter(e =>
            !e.closest('.scroll') && !e.closest('svg') &&
            (e.getBoundingClientRect().right > width + 1 || e.getBoundingClientRect().left < -1)
        ).map(e => e.tagName + '.' + e.className)""",
        width,
    )
    assert outside == []


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_what_is_recommended_is_on_the_first_screen(
    width: int, opened: Opener, finished_run: FinishedRun, tmp_path: Path
) -> None:
    comparison = finished_run.comparison
    judgement = judgement_of(comparison, "kl.mean <= 5")
    assert judgement.recommendation.variant == "nf4"
    path = tmp_path / "report.html"
    path.write_text(render_html(Report(comparison, judgement)), encoding="utf-8")
    page = opened(path, width)
    screen = page.viewport_size["height"]
    nf4 = comparison.variants["nf4"]
    verdict = page.locator(".verdict")
    for said in (
        "mean KL at most 5 nats",
        f"{formats.times(nf4.memory.compression_ratio)} smaller than fp16",
        f"perplexity {formats.change(nf4.perplexity)}",
        f"mean KL {formats.kl(nf4.kl)}",
    ):
        assert said in verdict.inner_text()
    assert "[" in formats.change(nf4.perplexity)
    box = verdict.bounding_box()
    assert box["y"] + box["height"] < screen
    assert "take nf4" in page.inner_text("h1") and "take nf4" in page.title()
    card = page.locator(".cards li").first
    assert card.inner_text().startswith("nf4")
    name = card.locator("h3").bounding_box()
    assert name["y"] + name["height"] < screen


def test_every_question_has_its_answer_and_its_evidence(opened: Opener, whole: Path) -> None:
    page = opened(whole)
    words = page.inner_text("body")
    for question in (
        "Which should I take?",
        "What does it cost, what do I get?",
        "Is it worse, really?",
        "Everywhere a little, or somewhere a lot?",
        "Which of my uses suffers?",
        "How fast, and why?",
        "Does it fit my card?",
        "Can I trust this?",
    ):
        assert question.lower() in words.lower()
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    for table in (
        "summary",
        "perplexity",
        "divergence",
        "cards",
        "category_kl",
        "memory",
        "environment",
    ):
        assert page.locator(f"#table-{table} tbody tr").count() > 1
    for plot in ("tradeoff-size", "perplexity", "kl", "confidence", "category-kl", "memory"):
        assert page.locator(f"#plot-{plot} svg").bounding_box()["height"] > 100
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_what_few_read_is_folded_away_and_opens(opened: Opener, whole: Path) -> None:
    page = opened(whole)
    worst = page.locator("#table-worst_tokens_nf4")
    assert not worst.is_visible()
    page.get_by_text("The tokens that nf4 gets most wrong").click()
    assert worst.is_visible()
    page.emulate_media(media="print")
    # Paper has no way to open what is folded.
    assert page.locator("#table-environment").bounding_box()["height"] > 50


def test_a_table_that_scrolls_keeps_what_its_rows_are_of(opened: Opener, whole: Path) -> None:
    page = opened(whole, PHONE)
    box = page.locator(".scroll:has(#table-summary)")
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    box.evaluate("e => e.scrollLeft = 1000")
    name = page.locator("#table-summary tbody tr td").first.bounding_box()
    assert 0 <= name["x"] < PHONE / 2
    # A shade says that there is more.
    assert "gradient" in box.evaluate("e => getComputedStyle(e).backgroundImage")


def test_a_screen_reader_finds_names_and_heads(opened: Opener, whole: Path) -> None:
    page = opened(whole)
    for picture in page.locator("svg").all():
        assert picture.get_attribute("role") == "img"
        for identifier in picture.get_attribute("aria-labelledby").split():
            assert page.locator(f"#{identifier}").text_content()
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption)")
    assert page.evaluate("[...document.querySelectorAll('thead th')].every(t => t.scope == 'col')")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => e.tagName[1])")
    assert levels[0] == "1"
    assert levels.count("1") == 1


def contrast(page: Any, selector: str) -> float:
    """Of an element's text with the page behind it (WCAG 2.1, relative luminance)."""
    return page.evaluate(
        """selector => {
            const parts = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
            const luminance = rgb => rgb.map(v => v / 255)
                .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
            const style = getComputedStyle(document.querySelector(selector));
            const colour = selector.includes('svg') ? style.fill : style.color;
            const ends = [colour, getComputedStyle(document.body).backgroundColor]
                .map(parts).map(luminance).sort((a, b) => a - b);
            return (ends[1] + 0.05) / (ends[0] + 0.05);
        }""",
        selector,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_dark(scheme: str, opened: Opener, whole: Path) -> None:
    page = opened(whole, scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 19, 24)"}[scheme]
    for selector in ("p", "td", "figcaption", "a", "abbr", ".badge.pass, .badge.fail", "svg text"):
        assert contrast(page, selector) >= 4.5, selector


def test_text_from_outside_is_text(
    opened: Opener, finished_run: FinishedRun, tmp_path: Path
) -> None:
    hostile = '<script>alert(1)</script><img src=x onerror=alert(2)> & "quoted"'
    content = finished_run.comparison.model_dump(by_alias=True)
    content["run_id"] = hostile
    content["provenance"]["model"]["id"] = hostile
    content["notes"] = [hostile]
    figures = content["variants"]["nf4"]
    assert figures["generation"]["most_different"]
    for answer in figures["generation"]["most_different"]:
        answer.update(prompt=hostile, answer=hostile, reference_answer=hostile)
    for token in figures["kl"]["worst_tokens"]:
        token.update(token=hostile, context=hostile)
    content["variants"]["<b>bold</b>"] = content["variants"].pop("int8")
    content["pairs"] = []
    content["progress"]["<b>bold</b>"] = content["progress"].pop("int8")
    page = opened(write(Comparison.model_validate(content), tmp_path))
    assert page.locator("script, img, b").count() == 0
    assert page.inner_text("h1").startswith(hostile)
    assert hostile in page.inner_text("main")


@pytest.mark.parametrize("media", ["screen", "print"])
def test_a_partial_run_says_so_wherever_one_looks(
    media: str, opened: Opener, finished_run: FinishedRun, tmp_path: Path
) -> None:
    content = finished_run.comparison.model_dump(by_alias=True)
    content["complete"] = False
    content["progress"]["nf4"]["windows"] = {"finished": 2, "planned": 6}
    page = opened(write(Comparison.model_validate(content), tmp_path))
    page.emulate_media(media=media)
    banner = page.locator(".partial")
    assert banner.inner_text() == "This report is partial. It has nf4 2 of 6 windows."
    # Below each other on a screen; on paper it stands on every sheet.
    assert banner.evaluate("e => getComputedStyle(e).position") == (
        "sticky" if media == "screen" else "fixed"
    )
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    assert 0 <= banner.bounding_box()["y"] < 100
    assert "Partial" in page.title()
    assert "Take nf4" not in page.inner_text("body")


def test_a_page_is_one_file_of_less_than_a_megabyte(
    whole: Path, finished_run: FinishedRun, tmp_path: Path
) -> None:
    assert whole.stat().st_size < 2**20
    assert write(finished_run.comparison, tmp_path).read_bytes() == whole.read_bytes()
