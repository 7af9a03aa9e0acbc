"""The explorer in a real JupyterLab, in a real browser; skipped where there is none, unless REQUIRE_BROWSER is set."""

import json
import re

import nbformat
import pytest
from lab import ask, chromium, jupyterlab, open_and_run

from helpers import encode, layer_influence, layer_stack

TEXT = "Hello world, hello word."
CELLS = {  # a cell each
    "load": "import threading\nfrom helpers import explorer, load_bert\nmodel, tokenizer = load_bert()",
    "show": f"seen = explorer(model, tokenizer, text={TEXT!r})\nseen",
    "after": "1",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    )
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, folder / "explorer.ipynb")
    with jupyterlab(folder / "explorer.ipynb", folder) as address, chromium() as browser:
        page = browser.new_page(viewport={"width": 1300, "height": 1300})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on(
            "console",
            lambda line: page.problems.append(line.text) if line.type == "error" else None,
        )
        page.on(
            "request",
            lambda r: (
                None
                if "//127.0.0.1" in r.url or r.url[:5] in ("data:", "blob:")
                else page.problems.append(r.url)
            ),
        )
        open_and_run(page, address)
        yield page
        assert page.problems == []


@pytest.fixture
def root(page):
    """Every test starts from the same sentence, layer and word, whatever came before."""
    root = page.locator(".jp-OutputArea-output .bv")
    root.wait_for()
    ask(
        page,
        f"(setattr(seen, 'settings', seen.initial['settings'] | {{'text': {TEXT!r}}}), seen.wait(60))",
    )
    ask(page, "(setattr(seen, 'selected', (1, 2, 1)), seen.wait(60))")
    shown(
        page,
        text=TEXT,
        selected=[1, 2, 1],
        method="exact",
        second="",
        direction="sends",
        drawing="arcs",
    )
    return root


def shown(page, **expected):
    """Wait until what is on the page is the answer to these settings."""
    condition = """expected => {
        const root = document.querySelector('.bv'), state = root?.dataset.state && JSON.parse(root.dataset.state);
        const same = key => JSON.stringify(state[key]) === JSON.stringify(expected[key]);
        const numbers = state && ['text', 'second', 'method', 'samples', 'sigma'].map(key => state[key]);
        return state && root.dataset.ready === 'ready' && Object.keys(expected).every(same)
            && JSON.stringify(JSON.parse(state.of)) === JSON.stringify(numbers) && state; }"""
    return page.wait_for_function(condition, arg=expected, timeout=60_000).json_value()


def words(root):
    return root.locator(".bv-sentence [data-word]")


def texts(root):
    return words(root).locator("bdi").all_inner_texts()


def test_a_sentence_is_typed_and_drawn(page, root, minilm):
    box = root.get_by_label("Sentence", exact=True)
    box.click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("A dog ran home.", delay=20)
    page.keyboard.press("Enter")
    shown(page, text="A dog ran home.")
    assert texts(root) == ["[CLS]", "a", "dog", "ran", "home", ".", "[SEP]"]
    expected = layer_influence(minilm[0], encode(minilm[1], "A dog ran home."), layers=[1]).values[
        0
    ]
    for cell in (9, 17, 33):
        label = root.locator(f'[data-cell="{cell}"]').get_attribute("aria-label")
        assert float(label.split(": ")[1]) == pytest.approx(
            float(expected[cell // 7, cell % 7]), rel=0.06
        )


def test_a_click_is_known_in_python_and_python_moves_the_view(page, root):
    words(root).nth(4).click()
    state = shown(page)
    assert state["selected"][2] == 4, "the second 'hello'"
    wait_for(page, "seen.selected[2] == 4")
    assert ask(page, "list(seen.selected)") == str(state["selected"])
    ask(page, "setattr(seen, 'selected', (3, 5, 2))")
    shown(page, selected=[3, 5, 2])
    assert root.locator('[data-cell="42"]').get_attribute("aria-selected") == "true"


def wait_for(page, condition):
    """Until something is true in the kernel, which hears of a click a moment after the browser."""
    for _ in range(200):
        if ask(page, condition) == "True":
            return
    pytest.fail(condition)


def test_paths_and_heads_come_with_the_layer(page, root, minilm):
    root.locator('[data-layer="4"]').click()
    page.locator('.bv-why:has-text("in layer 4") .bv-bar[data-head="11"]').wait_for(
        state="attached"
    )
    jacobian = layer_stack(minilm[0], encode(minilm[1], TEXT)).jacobian(4)
    t, s = shown(page)["selected"][1:]
    for place, expected in (
        ('[data-path="key"]', jacobian.paths()["key"][t, s]),
        ('[data-head="7"]', jacobian.heads()[7, t, s]),
    ):
        value = float(root.locator(place).get_attribute("data-value"))
        assert value == pytest.approx(float(expected), rel=1e-4)


def test_through_all_layers_is_computed_when_it_is_asked_for(page, root):
    root.get_by_role("button", name="through all layers").click()
    shown(page, selected=["all", 2, 1])
    told = root.locator("h3", has_text="through all layers:").filter(has_not_text="±")
    told.wait_for()  # exact by now
    assert root.get_by_role("status").inner_text().startswith("hello1 moves")


def test_the_notebooks_shortcuts_stay_away(page, root):
    """Typing after a click on a word: `dd` would delete the cell, `a` insert one."""
    before = page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length")
    for place in (
        words(root).nth(2),
        root.locator('[data-cell="10"]'),
        root.locator('[data-layer="2"]'),
    ):
        place.click()
        for key in "ddabxm":
            page.keyboard.press(key)
    assert (
        page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length")
        == before
        == len(CELLS)
    )
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert shown(page)["selected"][0] == 3


def test_bad_input_is_answered_and_the_last_picture_stays(page, root):
    box, alert = root.get_by_label("Sentence", exact=True), root.get_by_role("alert")
    height = root.bounding_box()["height"]
    for text, told in (
        ("", "Type at least one word."),
        ("word " * 70, "72 tokens; the view labels 1 to 64."),
    ):
        box.fill(text)
        alert.get_by_text(told).wait_for()
        assert (
            float(root.locator(".bv-stage").evaluate("e => getComputedStyle(e).opacity")) < 0.6
            and words(root).count() == 8
        )
        assert abs(root.bounding_box()["height"] - height) < 80, "the page does not collapse"
    box.fill("Fine again.")
    shown(page, text="Fine again.")
    assert alert.count() == 0 and texts(root)[1] == "fine"


def test_markup_chinese_and_emoji_stay_text(page, root):
    typed = "<script>document.title='broken'</script> <b>bold</b> & \"quoted\" 😀 中 国"
    root.get_by_label("Sentence", exact=True).fill(typed)
    shown(page, text=typed)
    labels = texts(root)
    assert labels[1:4] == ["<1", "script1", ">1"] and {"中", "国", "[UNK]1"} & set(labels) >= {
        "中",
        "国",
    }
    assert (
        root.locator("script, b:not([class]):text-is('bold')").count() == 0
        and "broken" not in page.title()
    )


def test_method_samples_and_a_second_sentence(page, root):
    root.get_by_text("Advanced").click()
    root.get_by_label("Method").select_option("jvp")
    shown(page, method="jvp")
    assert "±" in root.locator("h3").first.inner_text(), "sampled numbers have their errors"
    root.get_by_label("Method").select_option("exact")
    root.get_by_text("Advanced").click()
    for second, told in (
        ("Hello moon, hello word.", "'world' / 'moon'"),
        (TEXT, "every ratio is 1"),
        ("Cats and dogs", "shares no word"),
        ("   ", ""),
    ):
        root.get_by_label("Compare with").fill(second)
        shown(page, second=second, method="exact")
        note = root.locator(".bv-note").inner_text()
        assert told in note and bool(told) == bool(note)


def test_stop_ends_a_long_computation(page, root):
    ask(
        page,
        "setattr(seen, 'settings', seen.settings | {'text': 'word ' * 60, 'method': 'jvp', 'samples': 300})",
    )
    root.get_by_role("button", name="stop", exact=True).click()
    root.get_by_text("Stopped.").wait_for()
    assert root.get_attribute("data-ready") == "stopped" and words(root).count() == 8


def test_a_click_is_answered_at_once(page, root):
    """The whole of the work that a click on a word causes in the browser."""
    took = page.evaluate("""() => [...document.querySelectorAll('.bv-sentence [data-word]')].slice(1, 7).map(word => {
        const start = performance.now();
        word.click();
        document.body.getBoundingClientRect();
        return performance.now() - start; })""")
    print(f"click on a word: median {sorted(took)[3]:.1f} ms")
    assert sorted(took)[3] < 50


def test_a_page_is_saved(page, root, tmp_path):
    with page.expect_download() as download:
        root.get_by_role("button", name="page", exact=True).click()
    download.value.save_as(tmp_path / "view.html")
    other = page.context.browser.new_page()
    other.goto((tmp_path / "view.html").as_uri())
    other.locator('.bv[data-ready="ready"]').wait_for()
    assert json.loads(other.locator(".bv").get_attribute("data-state"))["selected"] == [1, 2, 1]
    assert (
        other.get_by_label("Sentence", exact=True).count() == 0
        or not other.get_by_label("Sentence", exact=True).is_visible()
    )
    other.close()


def test_the_cell_runs_again_five_times_and_leaves_nothing(page, root):
    place = page.locator(".jp-Notebook .jp-CodeCell").nth(1)
    for _ in range(5):
        count = int(ask(page, "get_ipython().execution_count"))
        page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
        assert page.evaluate("jupyterapp.commands.execute('notebook:run-cell')") is not False
        wait_for(page, f"get_ipython().execution_count > {count}")
        place.locator('.bv[data-ready="ready"]').wait_for()
        place.locator(".bv-sentence button").nth(2).click()
    assert place.locator(".bv").count() == 1
    wait_for(page, "len([t for t in threading.enumerate() if '_work' in t.name]) <= 1")
    made = "[e for _, _, e in __import__('sys').modules['helpers.interactive._explorer'].MADE]"
    assert ask(page, f"len({made})") == "1" and ask(page, f"{made}[0] is seen") == "True"
    every = "[e for e in __import__('gc').get_objects() if type(e).__name__ == 'Explorer' and hasattr(e, '_measured')]"
    assert (
        ask(
            page,
            f"[bool(e._measured.known.cache_info().currsize or e._measured.model) for e in {every} if e is not seen].count(True)",
        )
        == "0"
    )


def test_dark_theme(page, root):
    page.evaluate(
        "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
    )
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    back, ink = root.evaluate(
        "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
    )
    assert (
        max(map(int, re.findall(r"\d+", back)[:3])) < 80
        and min(map(int, re.findall(r"\d+", ink)[:3])) > 150
    )
    page.evaluate(
        "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})"
    )
    page.wait_for_function("document.body.dataset.jpThemeLight === 'true'")


def test_a_notebook_that_was_saved_and_opened_again_shows_the_still_view(page, root):
    """The last test: the kernel is gone after it, and the notebook has no widget."""
    still = page.locator("iframe[srcdoc]")
    assert still.count() == 1 and not still.is_visible(), "one view, the live one"
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    themes = "removeChild"  # Lab's own error when its theme changes twice, in jlab_core.js
    problems = [problem for problem in page.problems if themes not in problem]
    session = "jupyterapp.shell.currentWidget.sessionContext"
    assert page.evaluate(f"{session}.shutdown().then(() => true)")
    page.reload(wait_until="domcontentloaded")
    page.frame_locator("iframe[srcdoc]").locator('.bv[data-ready="ready"]').wait_for()
    assert page.locator(".jp-OutputArea-output .bv").count() == 0, "the widget is gone"
    page.get_by_text("model not found").wait_for(state="attached")
    assert still.is_visible() and not page.get_by_text("model not found").is_visible()
    page.goto("about:blank")
    page.problems[:] = problems  # Lab says in the console that kernel and widget are gone
