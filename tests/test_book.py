"""The book in a browser without a network, opened from a folder: every page, its figures, formulas, links and view."""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PAGES = [
    "index",
    "notes",
    *sorted(
        str(path.relative_to(NOTEBOOKS).with_suffix("")) for path in NOTEBOOKS.rglob("[0-9]*.ipynb")
    ),
]
pytestmark = pytest.mark.xdist_group("book")  # one process builds it


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book") / "html"
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        str(NOTEBOOKS),
        str(folder),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def opened(book, browser):
    """Opens a page of the book; nothing may be asked from a network, no error be written to the console."""
    contexts, problems = [], []

    def open_page(name, **context):
        contexts.append(browser.new_context(offline=True, **context))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console", lambda line: problems.append(line.text) if line.type == "error" else None
        )
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith(("file:", "data:", "blob:")) else problems.append(r.url)
            ),
        )
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.goto((book / f"{name}.html").as_uri())
        page.wait_for_function("() => !window.MathJax || window.MathJax.startup?.promise")
        page.evaluate("() => window.MathJax?.startup.promise")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.mark.parametrize("name", PAGES)
def test_every_page(opened, book, name):
    page = opened(name, viewport={"width": 390, "height": 800})
    assert page.locator(".bd-article h1").count() == 1
    images = page.locator(".bd-article img").all()
    assert not [image.get_attribute("src") for image in images if not image.get_attribute("alt")], (
        "without a text"
    )
    assert all(
        image.evaluate("image => image.decode().then(() => image.naturalWidth)") for image in images
    )
    formulas = page.locator(".bd-article .math")
    assert page.locator(".bd-article .math mjx-container > svg").count() == formulas.count()
    assert page.locator(".bd-article .math [data-mjx-error]").count() == 0
    for frame in page.locator(".bd-article iframe:visible").all():
        frame.content_frame.locator('.bv[data-ready="ready"]').wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, (
        "a phone need not scroll the page sideways"
    )
    for link in page.locator("a[href]").evaluate_all("links => links.map(link => link.href)"):
        parts = urlsplit(link)
        if parts.scheme == "file":
            target = Path(unquote(parts.path))
            assert target.is_file() and target.is_relative_to(book), link
            ids = re.findall(r'id="([^"]+)"', target.read_text("utf-8")) if parts.fragment else []
            assert not parts.fragment or unquote(parts.fragment) in ids, link


def test_the_pages_hold_what_the_tests_above_look_for(opened):
    """Formulas, figures and views are found on the pages that are known to have them."""
    page = opened("15_the_formula")
    assert page.locator(".bd-article .math mjx-container > svg").count() > 10
    assert page.locator(".bd-article img").count() >= 2
    assert page.locator(".bd-article mjx-assistive-mml").count() > 10, (
        "a screen reader gets the formulas too"
    )


def test_the_front_page_has_the_question_a_live_view_and_the_path(opened):
    page = opened("index", viewport={"width": 1200, "height": 900})
    assert "which other words notice" in page.locator(".bd-article").inner_text()
    root = page.frame_locator("iframe >> nth=0").locator('.bv[data-ready="ready"]')
    root.wait_for()
    before = json.loads(root.get_attribute("data-state"))["selected"]
    word = root.locator(".bv-sentence button").nth(1)
    word.hover()
    assert root.locator(".bv-headline").inner_text().startswith("beijing moves ")
    assert json.loads(root.get_attribute("data-state"))["selected"] == before, (
        "a hover selects nothing"
    )
    word.click()
    assert json.loads(root.get_attribute("data-state"))["selected"][2] == 1
    root.locator('[data-layer="4"]').click()
    assert json.loads(root.get_attribute("data-state"))["selected"][0] == 4
    links = "links => links.map(link => link.getAttribute('href'))"
    listed = page.locator(".bd-article table a").evaluate_all(links)
    contents = page.locator(".bd-sidebar-primary nav a").evaluate_all(links)
    assert listed == [link for link in contents if re.match(r"\d\d_", link)], (
        "the path, then further reading"
    )


def test_contents_next_and_previous_follow_the_path(opened):
    page = opened("index", viewport={"width": 1200, "height": 900})
    contents = page.locator(".bd-sidebar-primary nav a").evaluate_all(
        "links => links.map(link => link.href)"
    )
    names = [unquote(link).rpartition("/html/")[2].removesuffix(".html") for link in contents]
    assert sorted(names) == sorted(PAGES[1:]), "every notebook is in the contents, once"
    walked = []
    while (following := page.locator("a.right-next")).count():
        following.click()
        page.wait_for_load_state()
        walked.append(page.url.rpartition("/html/")[2].removesuffix(".html"))
    assert walked == names
    page.locator("a.left-prev").click()
    page.wait_for_load_state()
    assert page.url.endswith(f"{names[-2]}.html")


def test_set_up_is_closed_and_no_code_scrolls_sideways(opened):
    page = opened("08_findings", viewport={"width": 1440, "height": 900})
    code = page.locator(".bd-article .cell_input pre")
    assert code.first.is_visible() and not code.nth(1).is_visible(), "parameters, then set-up"
    wide = "all => all.filter(block => block.scrollWidth > block.clientWidth + 1).length"
    assert code.evaluate_all(wide) == 0


def test_the_icons_that_are_used_are_there_and_no_others(opened, book):
    assert (book / "_static/scripts/fontawesome.js").stat().st_size < 200_000
    icons = opened("index", viewport={"width": 1200, "height": 900}).locator("svg.svg-inline--fa")
    icons.first.wait_for(state="attached")
    drawn = icons.evaluate_all("all => all.map(icon => [icon.dataset.icon, icon.innerHTML.length])")
    assert {"magnifying-glass", "bars", "moon"} <= {name for name, _ in drawn}
    assert all(length > 100 for _, length in drawn), "each has its lines"


def test_search_finds_a_word(opened):
    page = opened("01_bert_at_a_glance", viewport={"width": 1200, "height": 900})
    page.keyboard.press("Control+k")
    page.keyboard.type("interference")
    page.keyboard.press("Enter")
    found = page.locator("ul.search li a").first
    found.wait_for()
    page.get_by_text("Search finished").wait_for()
    assert "The exact Jacobian" in page.locator("ul.search").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_is_as_dark_as_the_page(opened, scheme):
    page = opened("index", color_scheme=scheme)
    root = page.frame_locator("iframe >> nth=0").locator('.bv[data-ready="ready"]')
    root.wait_for()
    light = "e => Math.max(...getComputedStyle(e).color.match(/[0-9]+/g).slice(0, 3)) < 128"  # dark letters
    assert (
        root.evaluate(light)
        == page.locator(".bd-article p").first.evaluate(light)
        == (scheme == "light")
    )
