"""The explorer in a real JupyterLab, in a real browser; skipped where there is none, unless REQUIRE_BROWSER is set."""

import os
import shutil
from pathlib import Path

import pytest
from lab import jupyterlab, open_and_run, picture

from helpers import Measurements, Settings, explore
from helpers.widgets import png

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "11_explorer.ipynb"
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if CHROMIUM is None:
        absent = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
        absent("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with jupyterlab(NOTEBOOK, tmp_path_factory.mktemp("lab")) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", OFFLINE])
        page = browser.new_page(viewport={"width": 1300, "height": 1300})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda line: page.problems.append(line.text) if line.type == "error" else None)
        open_and_run(page, address)
        yield page
        assert page.problems == []
        browser.close()


@pytest.fixture
def measurements(minilm):
    return Measurements(*minilm)


@pytest.fixture
def explorer(page):
    """Every test starts from the same sentence, layer and token, whatever came before."""
    page.locator(".explorer").wait_for()
    show(page, "text", "Hello world, hello word.")
    page.locator(".ex-position button").nth(2).click()
    slider = page.locator(".ex-layer").get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    shown(page, text="Hello world, hello word.", position=2, layer=0)
    return page


def show(page, name, text):
    page.locator(f".ex-{name} input").fill(text)


def shown(page, **expected):
    """Wait until what is on the page was drawn from these settings, and return all of them."""
    condition = """expected => {
        const mark = document.querySelector('.explorer .ex-done'), state = mark && JSON.parse(mark.dataset.state);
        return state && Object.keys(expected).every(key => state[key] === expected[key]) && state; }"""
    return Settings(**page.wait_for_function(condition, arg=expected, timeout=20_000).json_value())


def test_a_new_sentence_is_drawn(explorer, measurements):
    box = explorer.get_by_label("Sentence", exact=True)
    box.click()
    explorer.keyboard.press("ControlOrMeta+A")
    explorer.keyboard.type("A dog ran home.", delay=30)
    settings = shown(explorer, text="A dog ran home.")
    for part in explore(measurements, settings):
        assert picture(explorer, part.part) == png(part)
    labels = explorer.locator(".ex-position button").all_inner_texts()
    assert labels == ["[CLS]", "a", "dog", "ran", "home", ".", "[SEP]"]


def test_the_slider_moves_by_keyboard(explorer, measurements):
    explorer.locator(".ex-layer").get_by_role("slider").focus()
    for _ in range(3):
        explorer.keyboard.press("ArrowRight")
    settings = shown(explorer, layer=3)
    assert picture(explorer, "map") == png(next(explore(measurements, settings)))
    assert "layer 3" in explorer.locator(".ex-map-picture img").get_attribute("alt")


def test_a_token_is_chosen_by_click_and_by_keyboard(explorer):
    explorer.locator(".ex-position button").nth(4).click()
    shown(explorer, position=4)
    assert "'hello' (4)" in explorer.locator(".ex-status").inner_text()
    explorer.locator(".ex-position button").nth(1).focus()
    explorer.keyboard.press("Enter")
    shown(explorer, position=1)
    assert "'hello' (1)" in explorer.locator(".ex-status").inner_text()


def test_an_error_is_shown_and_gone_with_the_next_good_input(explorer):
    show(explorer, "text", " ")
    alert = explorer.locator(".explorer").get_by_role("alert")
    alert.wait_for()
    assert "expected a sentence" in alert.inner_text()
    assert not explorer.locator(".ex-map-picture img").is_visible()
    show(explorer, "text", "word " * 70)
    explorer.get_by_text("expected at most 64 tokens").wait_for()
    show(explorer, "text", "Fine again.")
    shown(explorer, text="Fine again.")
    assert alert.count() == 0 and explorer.locator(".ex-map-picture img").is_visible()
    assert explorer.locator(".ex-position button").all_inner_texts()[1] == "fine"


def test_markup_and_other_scripts_stay_text(explorer):
    typed = "<script>document.title='broken'</script> <b>bold</b> & \"quoted\" 😀 سلام"
    show(explorer, "text", typed)
    shown(explorer, text=typed)
    labels = explorer.locator(".ex-position button").all_inner_texts()
    assert labels[1:4] == ["<", "script", ">"] and "&" in labels and "س" in labels
    explorer.locator(".ex-position button").nth(1).click()
    shown(explorer, position=1)
    assert "'<' (1)" in explorer.locator(".ex-status").inner_text()
    assert explorer.locator(".explorer b, .explorer script").count() == 0 and "broken" not in explorer.title()


def test_method_and_observation_and_a_second_sentence(explorer):
    explorer.get_by_label("Method").select_option("noise")
    shown(explorer, method="noise")
    assert explorer.get_by_label("σ").is_visible() and explorer.get_by_label("Samples").is_visible()
    explorer.get_by_label("Method").select_option("exact")
    shown(explorer, method="exact")
    assert not explorer.get_by_label("σ").is_visible()
    show(explorer, "second", "Hello moon, hello word.")
    shown(explorer, second="Hello moon, hello word.")
    assert "moon" in explorer.locator(".ex-pair-picture img").get_attribute("alt")
    show(explorer, "second", "")
    shown(explorer, second="")
    assert not explorer.locator(".ex-pair-picture img").is_visible()
