"""The view in a real browser without a kernel: a saved page, network off, and a notebook as nbconvert writes it."""

import json
import re

import nbformat
import numpy as np
import pytest
from nbconvert import HTMLExporter

from helpers import downstream_influence, encode, layer_influence, layer_stack, save_page, view

TEXT = "Hello world, hello word."
OFFLINE = {
    "mathjax_url": "",
    "require_js_url": "",
    "jquery_url": "",
    "widget_renderer_url": "",
    "mermaid_js_url": "",
}


def quiet(steps, desc):
    return steps


@pytest.fixture(scope="module")
def measured(minilm):
    model, tokenizer = minilm
    sentence = encode(tokenizer, TEXT)
    stack = layer_stack(model, sentence)
    jacobians = [stack.jacobian(number) for number in range(len(stack.layers))]
    return {
        "influence": layer_influence(model, sentence, progress=quiet),
        "paths": [J.paths() for J in jacobians],
        "heads": [J.heads() for J in jacobians],
        "through": downstream_influence(model, sentence, samples=4, progress=quiet),
        "second": layer_influence(
            model, encode(tokenizer, "Hello moon, hello word."), progress=quiet
        ),
    }


@pytest.fixture(scope="module")
def parts(measured):
    return {name: measured[name] for name in ("paths", "heads", "through")}


def opened(browser, folder, shown, carrier="page", **context):
    """A page of the browser, and in it the root of the view; what goes wrong there is collected."""
    page = browser.new_context(
        **{"viewport": {"width": 1000, "height": 900}, "offline": True} | context
    ).new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "console", lambda line: page.problems.append(line.text) if line.type == "error" else None
    )
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith(("file:", "blob:", "data:")) else page.problems.append(r.url)
        ),
    )
    file = save_page(shown, folder / "page.html")
    place = page
    if carrier == "nbconvert":
        output = nbformat.v4.new_output(
            "execute_result", {"text/html": shown._repr_html_()}, execution_count=1
        )
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell("v", outputs=[output], execution_count=1)]
        )
        exporter = HTMLExporter(**OFFLINE)
        file.write_text(exporter.from_notebook_node(notebook)[0], "utf-8")
    page.goto(file.as_uri())
    if carrier == "nbconvert":
        place = page.frame_locator("iframe")
    root = place.locator('.bv[data-ready="ready"]')
    root.wait_for()
    return page, root


@pytest.fixture(params=["page", "nbconvert"])
def shown(request, browser, tmp_path, measured, parts):
    page, root = opened(
        browser, tmp_path, view(measured["influence"], **parts, layer=2, source=4), request.param
    )
    yield page, root
    assert page.problems == []
    page.context.close()


def selected(root):
    return json.loads(root.get_attribute("data-state"))["selected"]


def number(text):
    return float(re.search(r": (\d[\d.e-]*)", text)[1])


def test_hover_tells_the_value_and_click_selects(shown, measured):
    _, root = shown
    values = measured["influence"].values[2]
    cell = root.locator('[data-cell="17"]')  # target 2, source 1, of 8 tokens
    cell.hover()
    hint = root.locator(".bv-hint").inner_text()
    order = sorted((float(values[2, s]) for s in range(8) if s != 2), reverse=True)
    rank = order.index(float(values[2, 1])) + 1
    assert hint.startswith("'hello' (1st) → 'world': ") and hint.endswith(
        f"{rank}{nth(rank)} of 7 sources"
    )
    assert number(hint) == pytest.approx(float(values[2, 1]), rel=0.006)
    assert selected(root)[2] == 4, "a hover selects nothing"
    cell.click()
    assert selected(root) == [2, 2, 1] and cell.get_attribute("aria-selected") == "true"
    assert root.locator('[aria-selected="true"]').count() == 1


def nth(rank):
    return {1: "st", 2: "nd", 3: "rd"}.get(rank, "th")


def test_the_second_of_two_equal_words_is_another_one(shown, measured):
    _, root = shown
    words = root.locator(".bv-sentence button")
    assert words.all_inner_texts() == [
        "[CLS]",
        "hello₁",
        "world",
        "','",
        "hello₂",
        "word",
        "'.'",
        "[SEP]",
    ]
    words.nth(1).click()
    assert selected(root)[2] == 1
    words.nth(4).click()
    assert selected(root)[2] == 4
    column = measured["influence"].values[2][:, 4].clone()
    column[4] = 0
    assert selected(root)[1] == column.argmax()
    pressed = [word.get_attribute("aria-pressed") for word in words.all()]
    assert pressed == ["true" if i == 4 else "false" for i in range(8)]
    assert "'hello' (2nd) sends most to" in root.get_by_role("status").inner_text()


def test_a_word_shades_the_others_by_what_it_sends_or_they_send_to_it(shown, measured):
    _, root = shown
    colour = "e => getComputedStyle(e).backgroundColor"
    words, cell = (
        root.locator(".bv-sentence button"),
        lambda t, s: root.locator(f'[data-cell="{8 * t + s}"]'),
    )
    words.nth(2).hover()
    assert words.nth(5).evaluate(colour) == cell(5, 2).evaluate(colour)
    root.get_by_role("button", name="receives").click()
    words.nth(2).hover()
    assert words.nth(5).evaluate(colour) == cell(2, 5).evaluate(colour)
    words.nth(5).click()
    row = measured["influence"].values[2][5].clone()
    row[5] = 0
    assert selected(root) == [2, 5, int(row.argmax())]
    told = root.get_by_role("status").inner_text()
    assert "'word' sends most to" in told and "it receives most from" in told


def test_keyboard_alone(shown):
    page, root = shown
    words = root.locator(".bv-sentence button")
    words.nth(4).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "'.' sends most to" in root.locator(".bv-hint").inner_text(), "the arrows preview"
    page.keyboard.press("Enter")
    assert selected(root)[2] == 6
    t, s = selected(root)[1:]
    root.locator(f'[data-cell="{8 * t + s}"]').focus()
    page.keyboard.press("ArrowUp" if t else "ArrowDown")
    page.keyboard.press("Enter")
    assert selected(root)[1:] == [t - 1 if t else 1, s]
    root.locator('[data-layer="2"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert selected(root)[0] == 3
    for name in ("word", "cell", "layer", "head"):
        assert root.locator(f'[data-{name}][data-key][tabindex="0"]').count() == 1, (
            f"one tab stop for each {name}"
        )


def test_layers_and_through_all(shown, measured):
    _, root = shown
    assert root.locator("[data-layer]").all_inner_texts() == [f"layer {n}" for n in range(6)] + [
        "through all layers"
    ]
    root.locator('[data-layer="all"]').click()
    assert selected(root)[0] == "all"
    told = root.get_by_role("status").inner_text()
    found, (t, s) = measured["through"], selected(root)[1:]
    value, error = re.search(r"Selected: .*: (\S+) ± ([\d.e-]+)", told).groups()
    assert float(value) == pytest.approx(float(found.values[-1, t, s]), rel=0.006)
    assert float(error) == pytest.approx(float(found.stderr[-1, t, s]), rel=0.06)
    root.locator('[data-layer="5"]').click()
    assert root.locator('[data-layer][aria-pressed="true"]').get_attribute("data-layer") == "5"


def bars(root):
    return {
        bar.get_attribute("aria-label").split(":")[0]: float(bar.get_attribute("data-value"))
        for bar in root.locator(".bv-bar").all()
    }


def test_paths_and_heads_are_pythons(shown, measured):
    _, root = shown
    for t, s, names in ((5, 3, ["value", "key", "interference"]), (5, 5, [*measured["paths"][2]])):
        root.locator(f'[data-cell="{8 * t + s}"]').click()
        found = bars(root)
        assert [name for name in found if "head" not in name] == names
        for name in names:
            assert found[name] == pytest.approx(float(measured["paths"][2][name][t, s]), rel=1e-6)
        for head in range(12):
            assert found[f"head {head}"] == pytest.approx(
                float(measured["heads"][2][head, t, s]), rel=1e-6
            )
        total = sum(value for name, value in found.items() if "head" not in name)
        assert total == pytest.approx(float(measured["influence"].values[2, t, s]), rel=1e-3)


def test_a_head_shows_its_own_map(shown, measured):
    _, root = shown
    cell = root.locator('[data-cell="21"]')
    root.locator('[data-head="3"]').hover()
    assert root.locator(".bv-hint").inner_text().startswith("Head 3 alone")
    value = number(cell.get_attribute("aria-label"))
    assert value == pytest.approx(float(measured["heads"][2][3, 2, 5]), rel=0.06)
    root.locator(".bv-note, .bv-told").last.hover()
    assert number(cell.get_attribute("aria-label")) == pytest.approx(
        float(measured["influence"].values[2, 2, 5]), rel=0.006
    )


def test_lines_are_the_same_selection(shown):
    _, root = shown
    root.get_by_role("button", name="lines").click()
    assert not root.locator(".bv-map").is_visible()
    mine = root.locator(".bv-lines line.bv-mine")
    assert {int(line.get_attribute("data-cell")) % 8 for line in mine.all()} == {
        4
    } and mine.count() == 7
    root.locator(".bv-lines text[data-word='2']").first.click()
    assert selected(root)[2] == 2
    assert {int(line.get_attribute("data-cell")) % 8 for line in mine.all()} == {2}
    widths = {
        int(line.get_attribute("data-cell")) // 8: float(line.get_attribute("stroke-width"))
        for line in mine.all()
    }
    assert max(widths, key=widths.get) == selected(root)[1], (
        "the widest line is the largest influence"
    )


def test_own_position_and_special_tokens_can_be_hidden(shown):
    _, root = shown
    assert not root.locator('[data-cell="9"]').get_attribute("style").count("background")
    root.get_by_role("button", name="own position").click()
    assert root.locator('[data-cell="9"]').get_attribute("style").count("background")
    root.get_by_role("button", name="special tokens").click()
    assert (
        root.locator(".bv-sentence button").all_inner_texts()[0] == "hello₁"
        and root.locator("[data-cell]").count() == 36
    )
    state = json.loads(root.get_attribute("data-state"))
    assert state["own"] is True and state["special"] is False
    root.get_by_role("button", name="reset").click()
    assert root.locator("[data-cell]").count() == 64 and selected(root)[2] == 4


def test_one_colour_scale_for_all_layers(shown, measured):
    _, root = shown
    ends = root.locator(".bv-ticks span").all_inner_texts()
    off = ~np.eye(8, dtype=bool)
    every = np.concatenate(
        [measured["influence"].values.numpy(), measured["through"].values[-1:].numpy()]
    )[:, off]
    assert float(ends[-1]) == pytest.approx(every.max(), rel=0.006)
    root.locator('[data-layer="4"]').click()
    assert root.locator(".bv-ticks span").all_inner_texts() == ends
    assert "no unit" in root.locator(".bv-legend").inner_text()
    assert "need not carry news" in root.locator(".bv-legend").inner_text()


def test_settings_can_be_copied_into_python(shown, measured, parts):
    _, root = shown
    root.get_by_role("button", name="own position").click()
    root.get_by_role("button", name="receives").click()
    root.get_by_role("button", name="copy settings").click()
    call = root.locator(".bv-call").input_value()
    again = eval(
        call,
        {"view": lambda influence, **options: view(influence, **parts, **options)},
        {"influence": measured["influence"]},
    )
    state = json.loads(root.get_attribute("data-state"))
    assert again.state["selected"] == state["selected"]
    assert again.state["settings"] == {name: state[name] for name in again.state["settings"]}


def test_a_page_saves_itself_as_it_is_now(browser, tmp_path, measured):
    page, root = opened(browser, tmp_path, view(measured["influence"], title="</script> 注意力 😀"))
    root.locator('[data-layer="3"]').click()
    root.locator(".bv-sentence button").nth(5).click()
    state = root.get_attribute("data-state")
    with page.expect_download() as download:
        root.get_by_role("button", name="save page").click()
    copy = tmp_path / "copy.html"
    download.value.save_as(copy)
    page.goto(copy.as_uri())
    root.wait_for()
    assert root.get_attribute("data-state") == state
    assert root.locator(".bv-note").inner_text() == "</script> 注意力 😀"
    assert page.problems == []


def test_compare_shows_ratios_on_aligned_words(browser, tmp_path, measured):
    first, second = measured["influence"], measured["second"]
    page, root = opened(browser, tmp_path, view(first, second=second, layer=2))
    assert "'world' / 'moon'" in root.locator(".bv-note").inner_text()
    root.locator('[data-cell="21"]').hover()
    there, ratio = re.search(
        r"in the second (\S+) \(× (\S+)\)", root.locator(".bv-hint").inner_text()
    ).groups()
    assert float(there) == pytest.approx(float(second.values[2, 2, 5]), rel=0.006)
    assert float(ratio) == pytest.approx(
        float(second.values[2, 2, 5] / first.values[2, 2, 5]), rel=0.006
    )
    before = root.locator('[data-cell="21"]').get_attribute("style")
    root.get_by_role("button", name="difference").click()
    assert root.locator('[data-cell="21"]').get_attribute("style") != before
    assert page.problems == []


def test_word_pieces_are_joined_by_sums(browser, tmp_path):
    values = np.random.default_rng(0).random((1, 5, 5))
    page, root = opened(
        browser, tmp_path, view(values, ["[CLS]", "token", "##ization", "works", "[SEP]"])
    )
    root.get_by_role("button", name="word pieces joined").click()
    assert root.locator(".bv-sentence button").all_inner_texts() == [
        "[CLS]",
        "tokenization",
        "works",
        "[SEP]",
    ]
    label = root.locator('[data-cell="6"]').get_attribute("aria-label")
    assert label.startswith("'works' → 'tokenization'")
    assert number(label) == pytest.approx(values[0, 1:3, 3].sum(), rel=0.006)
    assert page.problems == []


HARD = [
    "[CLS]",
    "</script><img src=x onerror=alert(1)>",
    "'\"&",
    "注意力",
    "😀",
    "سلام",
    "$",
    "constructor",
    "[SEP]",
]


def test_any_script_and_markup_stay_text(browser, tmp_path):
    page, root = opened(
        browser, tmp_path, view(np.random.default_rng(0).random((2, 9, 9)), HARD, title="<b>x</b>")
    )
    labels = root.locator(".bv-sentence button").all_inner_texts()
    assert labels == [t if re.search(r"[^\W_]", t) else f"'{t}'" for t in HARD]
    assert root.locator("img, b.x, .bv-note b").count() == 0
    root.get_by_role("button", name="lines").click()
    assert root.locator(".bv-lines text[data-word='3']").first.text_content() == "注意力"
    assert page.problems == []


@pytest.mark.parametrize("width", [390, 600, 900, 1400])
@pytest.mark.parametrize("seq", [3, 13, 64])
def test_nothing_leaves_the_page_at_any_width(browser, tmp_path, width, seq):
    tokens = [f"word{i}" for i in range(seq)]
    shown = view(np.random.default_rng(0).random((12, seq, seq)), tokens)
    page, root = opened(browser, tmp_path, shown, viewport={"width": width, "height": 800})
    wide = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    box = root.locator("[data-cell]").first.bounding_box()
    assert box["width"] >= 11 and abs(box["width"] - box["height"]) < 1.5
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.problems == []
    page.context.close()


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    r, g, b = (part / 12.92 if part < 0.04 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


CONTRAST = """() => [...document.querySelectorAll('.bv-sentence button, .bv-told, .bv-legend')].map(node => {
    let back = node;
    while (getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
    return [getComputedStyle(node).color, getComputedStyle(back).backgroundColor]; })"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(browser, tmp_path, measured, scheme):
    page, _ = opened(browser, tmp_path, view(measured["influence"]), color_scheme=scheme)
    back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (luminance(back) < 0.2) == (scheme == "dark")
    for text, behind in page.evaluate(CONTRAST):
        if "color(" not in behind:  # a mixture; the same text colour stands on it
            light, dark = sorted([luminance(text), luminance(behind)], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.4, (text, behind)


def test_forced_colours_keep_the_map(browser, tmp_path, measured):
    page, root = opened(browser, tmp_path, view(measured["influence"]), forced_colors="active")
    colour = "e => getComputedStyle(e).backgroundColor"
    assert (
        len({root.locator(f'[data-cell="{i}"]').evaluate(colour) for i in (8, 17, 26, 35, 44)}) > 2
    )
    root.get_by_role("button", name="receives").click()
    assert json.loads(root.get_attribute("data-state"))["direction"] == "receives"
    assert page.problems == []
