"""The view in a real browser without a kernel: a saved page, a notebook's html, its functions alone."""

import json
import re
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread
from nbconvert import HTMLExporter

from helpers import downstream_influence, encode, layer_influence, layer_stack, save_page, view
from helpers.interactive import _view

TEXT = "Hello world, hello word."
OFFLINE = {
    "mathjax_url": "",
    "require_js_url": "",
    "jquery_url": "",
    "widget_renderer_url": "",
    "mermaid_js_url": "",
}


JS = (Path(_view.__file__).parent / "view.js").read_text("utf-8")


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
        **{
            "viewport": {"width": 1000, "height": 900},
            "offline": True,
            "reduced_motion": "reduce",  # colours are there at once
        }
        | context
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
    made = view(measured["influence"], **parts, layer=2, source=4)
    page, root = opened(browser, tmp_path, made, request.param)
    yield page, root
    assert page.problems == []
    page.context.close()


def state(root):
    return json.loads(root.get_attribute("data-state"))


def selected(root):
    return state(root)["selected"]


def plain(text):
    """Without the marks that keep a word's direction to itself."""
    return re.sub("[\u2068\u2069]", "", text)


def number(text):
    """The number after the last colon, as the view writes numbers."""
    found = re.search(r": (\d[\d.]*)( × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?", text)
    power = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    return float(found[1]) * 10 ** int((found[2] or " × 100").translate(power)[5:] or 0)


def caption(root):
    return root.locator(".bv-foot > span").first.inner_text()


def words(root):
    return root.locator(".bv-sentence [data-word]")


def cell(root, t, s, n=8):
    return root.locator(f'[data-cell="{n * t + s}"]')


def hint(root):
    return plain(root.locator(".bv-hint").inner_text())


def headline(root):
    return root.locator(".bv-headline").inner_text()


def display(root, label):
    """A switch behind Display."""
    if not root.locator(".bv-display").evaluate("e => e.open"):
        root.locator(".bv-display summary").click()
    root.get_by_label(label).click()
    root.locator(".bv-display summary").click()


def switched(root, name):
    root.get_by_role("radio", name=name, exact=True).click()


def test_the_answer_is_a_sentence_with_shares(shown, measured):
    _, root = shown
    column = measured["influence"].values[2][:, 4].double().clone()
    column[4] = 0
    order = column.argsort(descending=True)
    tokens = measured["influence"].tokens
    assert tokens[order[0]] in headline(root) and headline(root).startswith("hello2 moves ")
    assert headline(root).endswith(" most")
    rows = root.locator(".bv-share").all_inner_texts()
    assert len(rows) == 3
    for place, row in zip(order[:3].tolist(), rows, strict=True):
        share, far = re.search(r"(\d+)\s%\s+(\S+)", row).groups()
        assert int(share) == round(100 * float(column[place] / column.sum()))
        assert float(far) == pytest.approx(float(column[place] / 384) ** 0.5, rel=0.06)
    under = root.locator(".bv-under").inner_text()
    assert re.search(r"moves (\S+) times as far as hello2 was pushed", under)
    row = measured["influence"].values[2][order[0]].double().clone()
    row[order[0]] = 0
    share = round(100 * float(row[4] / row.sum()))
    told = f"{share}\u00a0% of what {tokens[order[0]]} receives from others"
    assert told in root.locator("h3").first.inner_text()


def test_hover_tells_the_value_and_click_selects(shown, measured):
    _, root = shown
    values = measured["influence"].values[2]
    place = cell(root, 2, 1)
    place.hover()
    order = sorted((float(values[2, s]) for s in range(8) if s != 2), reverse=True)
    rank = order.index(float(values[2, 1])) + 1
    assert hint(root).startswith("hello (1st) → world: ")
    assert hint(root).endswith(f"{rank}{nth(rank)} of 7 sources of world")
    assert number(hint(root)) == pytest.approx(float(values[2, 1]), rel=0.006)
    assert selected(root)[2] == 4, "a hover selects nothing"
    place.click()
    assert selected(root) == [2, 2, 1] and place.get_attribute("aria-selected") == "true"
    assert root.locator('[aria-selected="true"]').count() == 1


def nth(rank):
    return {1: "st", 2: "nd", 3: "rd"}.get(rank, "th")


def test_the_second_of_two_equal_words_is_another_one(shown, measured):
    _, root = shown
    assert words(root).locator("bdi").all_inner_texts() == [
        "[CLS]",
        "hello1",
        "world",
        ",",
        "hello2",
        "word",
        ".",
        "[SEP]",
    ]
    words(root).nth(1).click()
    assert selected(root)[2] == 1
    words(root).nth(4).click()
    assert selected(root)[2] == 4
    column = measured["influence"].values[2][:, 4].clone()
    column[4] = 0
    assert selected(root)[1] == column.argmax()
    pressed = [word.get_attribute("aria-pressed") for word in words(root).all()]
    assert pressed == ["true" if i == 4 else "false" for i in range(8)]
    assert root.get_by_role("status").inner_text().startswith("hello2 moves")


COLOUR = "e => getComputedStyle(e).backgroundColor"


def test_a_word_shades_the_others_by_what_it_sends_or_they_send_to_it(shown, measured):
    _, root = shown
    words(root).nth(2).hover()
    assert words(root).nth(5).evaluate(COLOUR) == cell(root, 5, 2).evaluate(COLOUR)
    assert headline(root).startswith("world moves")
    switched(root, "receives")
    words(root).nth(2).hover()
    assert words(root).nth(5).evaluate(COLOUR) == cell(root, 2, 5).evaluate(COLOUR)
    assert headline(root).startswith("world is moved most by ")
    words(root).nth(5).click()
    row = measured["influence"].values[2][5].clone()
    row[5] = 0
    assert selected(root) == [2, 5, int(row.argmax())]


def test_arcs_go_to_those_that_move_most(shown, measured):
    _, root = shown
    arcs = root.locator(".bv-arcs .bv-shown")
    assert 3 <= arcs.count() <= 5
    widths = [
        float(arc.evaluate("e => parseFloat(e.style.strokeWidth)"))
        for arc in root.locator(".bv-shown .bv-arc").all()
    ]
    assert widths == sorted(widths, reverse=True), "width is influence"
    column = measured["influence"].values[2][:, 4].clone()
    column[4] = 0
    tip = root.locator(".bv-first .bv-tip").get_attribute("d")
    x = float(re.match(r"M([\d.]+)", tip)[1])
    box = (
        words(root)
        .nth(int(column.argmax()))
        .evaluate("e => [e.offsetLeft, e.offsetLeft + e.offsetWidth]")
    )
    assert box[0] < x < box[1], "the accent points at the word that is moved most"
    switched(root, "map")
    assert arcs.count() == 0


def test_keyboard_alone(shown):
    page, root = shown
    words(root).nth(4).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert headline(root).startswith("the full stop moves"), "the arrows preview"
    page.keyboard.press("Enter")
    assert selected(root)[2] == 6
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert selected(root)[2] == 0
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    t, s = selected(root)[1:]
    assert s == 7
    cell(root, t, s).focus()
    page.keyboard.press("ArrowUp" if t else "ArrowDown")
    page.keyboard.press("Enter")
    assert selected(root)[1:] == [t - 1 if t else 1, s]
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    assert selected(root)[2] == 0
    root.locator('[data-layer="2"]').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert selected(root)[0] == 3
    root.get_by_role("radio", name="sends").focus()
    page.keyboard.press("ArrowRight")
    assert state(root)["direction"] == "receives"
    for name in ("word", "cell", "layer"):
        assert root.locator(f'[data-{name}][data-key][tabindex="0"]').count() == 1, (
            f"one tab stop for each {name}"
        )
    assert root.get_by_role("rowheader").count() == root.get_by_role("columnheader").count() == 8
    assert root.get_by_role("gridcell").count() == 64


def test_the_focus_on_a_cell_is_seen(shown):
    page, root = shown
    cell(root, 3, 3).focus()
    page.keyboard.press("ArrowRight")
    look = cell(root, 3, 4).evaluate(
        """e => { const { outlineWidth, outlineStyle, zIndex } = getComputedStyle(e);
        return [document.activeElement === e, parseFloat(outlineWidth), outlineStyle, +zIndex]; }"""
    )
    band = int(root.locator(".bv-band").evaluate("e => getComputedStyle(e).zIndex"))
    assert look[0] and look[1] >= 3 and look[2] == "solid" and look[3] > band


def test_a_resting_pointer_sees_one_answer(browser, tmp_path, measured):
    """A longer headline moves the words; the view must not take that for a moved pointer."""
    page, root = opened(browser, tmp_path, view(measured["influence"], layer=3, source=1))
    above, below = words(root).nth(1).bounding_box(), words(root).nth(5).bounding_box()
    assert headline(root).startswith("hello1 moves")
    page.mouse.move(below["x"] + 8, above["y"] + 4)
    frames = page.evaluate("""() => new Promise(done => {
        const seen = [], look = () => {
            seen.push(document.querySelector('.bv-headline').textContent);
            if (seen.length < 12) requestAnimationFrame(look); else done(seen); };
        look(); })""")
    assert len(set(frames)) == 1 and frames[0].startswith("word moves")
    assert page.problems == []


def test_layers_and_through_all(shown, measured):
    _, root = shown
    names = [f"layer {n}" for n in range(6)] + ["through all"]
    assert root.locator("[data-layer]").all_inner_texts() == names
    box = [tile.bounding_box() for tile in root.locator("[data-layer]").all()]
    assert len({round(b["y"]) for b in box}) == len({round(b["width"]) for b in box}) == 1
    dots = [d.bounding_box() for d in root.locator(".bv-trend circle").all()]
    for tile, dot in zip(box, dots, strict=True):
        middle = tile["x"] + tile["width"] / 2
        assert abs(dot["x"] + dot["width"] / 2 - middle) < 1.5, "the trend stands under its layers"
    root.locator('[data-layer="all"]').click()
    assert selected(root)[0] == "all"
    told = root.locator("h3").first.inner_text()
    found, (t, s) = measured["through"], selected(root)[1:]
    value, error = re.search(
        r"influence through all layers: (\S+) ± (\S+) \(estimate\)", told
    ).groups()
    assert float(value) == pytest.approx(float(found.values[-1, t, s]), rel=0.006)
    assert float(error) == pytest.approx(float(found.stderr[-1, t, s]), rel=0.06)
    assert "Choose one layer for paths and heads" in root.locator(".bv-why").inner_text()
    assert "estimated by sampling" in caption(root) and "exact" not in caption(root)
    root.locator('[data-layer="5"]').click()
    assert "exact" in caption(root)
    assert root.locator('[data-layer][aria-pressed="true"]').get_attribute("data-layer") == "5"


def test_play_runs_through_the_layers_and_keeps_where_it_stops(browser, tmp_path, measured):
    page, root = opened(browser, tmp_path, view(measured["influence"], layer=2))
    page.clock.install()
    root.get_by_role("button", name="Play the layers").click()
    seen = []
    for _ in range(6):
        seen.append(root.locator('[data-layer][aria-pressed="true"]').get_attribute("data-layer"))
        page.clock.run_for(800)
    assert seen == list("012345") and selected(root)[0] == 5
    root.get_by_role("button", name="Play the layers").click()
    page.clock.run_for(900)
    root.get_by_role("button", name="Pause").click()
    assert selected(root)[0] == 1 and page.problems == []


def test_paths_and_heads_are_pythons(shown, measured):
    _, root = shown
    for t, s, names in ((5, 3, ["value", "key", "interference"]), (5, 5, [*measured["paths"][2]])):
        cell(root, t, s).click()
        keys = root.locator("[data-path]").all()
        found = {k.get_attribute("data-path"): float(k.get_attribute("data-value")) for k in keys}
        assert list(found) == names
        for name in names:
            assert found[name] == pytest.approx(float(measured["paths"][2][name][t, s]), rel=1e-6)
        heads = root.locator("[data-head]").all()
        values = {
            int(b.get_attribute("data-head")): float(b.get_attribute("data-value")) for b in heads
        }
        for head in range(12):
            expected = float(measured["heads"][2][head, t, s])
            assert values[head] == pytest.approx(expected, rel=1e-6)
        assert list(values.values()) == sorted(values.values(), reverse=True)
        assert root.locator("[data-head]:visible").count() == 4, "the rest is folded"
        total = sum(found.values())
        assert total == pytest.approx(float(measured["influence"].values[2, t, s]), rel=1e-3)


def test_a_head_shows_its_own_map_and_a_click_keeps_it(shown, measured):
    _, root = shown
    root.locator(".bv-more summary").click()
    root.locator('[data-head="3"]').hover()
    assert hint(root).startswith("Head 3 alone") and "click to keep it" in hint(root).lower()
    place, alone = cell(root, 2, 5), float(measured["heads"][2][3, 2, 5])
    assert number(place.get_attribute("aria-label")) == pytest.approx(alone, rel=0.06)
    root.locator(".bv-eyebrow").hover()
    whole = float(measured["influence"].values[2, 2, 5])
    assert number(place.get_attribute("aria-label")) == pytest.approx(whole, rel=0.006)
    root.locator('[data-head="3"]').click()
    root.locator(".bv-eyebrow").hover()
    assert number(place.get_attribute("aria-label")) == pytest.approx(alone, rel=0.06)
    assert "head 3 alone" in root.locator(".bv-eyebrow").inner_text()
    assert state(root)["head"] == 3
    root.locator('[data-head="3"]').click()
    root.locator(".bv-eyebrow").hover()
    assert number(place.get_attribute("aria-label")) == pytest.approx(whole, rel=0.006)
    root.locator('[data-head="3"]').click()
    root.locator('[data-layer="1"]').click()
    assert state(root)["head"] is None, "another layer has other heads"


def test_each_head_has_its_map_beside_its_bar(shown, measured):
    _, root = shown
    look = "e => [...e.getContext('2d').getImageData(5, 2, 1, 1).data]"
    root.locator('[data-head="3"] canvas').wait_for(state="attached")
    small = root.locator('[data-head="3"] canvas').evaluate(look)
    root.locator(".bv-more summary").click()
    root.locator('[data-head="3"]').hover()
    colour = [int(part) for part in re.findall(r"\d+", cell(root, 2, 5).evaluate(COLOUR))]
    assert small == [*colour, 255]


def test_lines_are_the_same_selection(shown):
    _, root = shown
    switched(root, "lines")
    assert not root.locator(".bv-map").is_visible()
    mine = root.locator(".bv-lines path.bv-mine")
    assert {int(line.get_attribute("data-cell")) % 8 for line in mine.all()} == {4}
    assert mine.count() == 7 and root.locator(".bv-lines path.bv-others").count() == 12
    assert root.locator(".bv-legend").inner_text().startswith("Width: ")
    assert root.locator(".bv-legend i").count() == 0, "no ramp where nothing has its colours"
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
    assert not cell(root, 1, 1).get_attribute("style").count("background")
    display(root, "own position")
    assert cell(root, 1, 1).get_attribute("style").count("background")
    display(root, "special tokens")
    assert words(root).nth(0).locator("bdi").inner_text() == "hello1"
    assert root.locator("[data-cell]").count() == 36
    assert state(root)["own"] is True and state(root)["special"] is False
    assert root.locator(".bv-shares p").inner_text().startswith("Of the words that")
    root.get_by_role("button", name="reset").click()
    assert root.locator("[data-cell]").count() == 64 and selected(root)[2] == 4


def test_one_colour_scale_for_all_layers(shown, measured):
    _, root = shown
    ends = root.locator(".bv-legend span").all_inner_texts()
    off = ~np.eye(8, dtype=bool)
    every = np.concatenate(
        [measured["influence"].values.numpy(), measured["through"].values[-1:].numpy()]
    )[:, off]
    assert float(ends[-1]) == pytest.approx(every.max(), rel=0.006)
    root.locator('[data-layer="4"]').click()
    assert root.locator(".bv-legend span").all_inner_texts() == ends
    assert "no unit" in root.locator(".bv-legend").inner_text()
    assert "need not carry news" in root.locator(".bv-legend").inner_text()


def called(root, measured, parts, second=None):
    """The view that the copied call gives where the names are what they were."""
    root.get_by_role("button", name="copy settings").click()
    names = {"influence": measured["influence"], "view": view, "second": second} | parts
    return eval(root.locator(".bv-call").input_value(), names)


def test_settings_can_be_copied_into_python(shown, measured, parts):
    _, root = shown
    display(root, "own position")
    switched(root, "receives")
    root.locator('[data-layer="all"]').click()
    again = called(root, measured, parts)
    assert again.state["selected"] == selected(root)
    now = state(root)
    assert again.state["settings"] == {name: now[name] for name in again.state["settings"]}


def test_a_copied_call_keeps_title_and_second(browser, tmp_path, measured):
    made = view(measured["influence"], second=measured["second"], title='It\'s "so"')
    _, root = opened(browser, tmp_path, made)
    again = called(root, measured, {}, measured["second"])
    assert again.state["data"]["title"] == 'It\'s "so"' and again.state["second"]["values"]


def test_a_page_saves_itself_as_it_is_now(browser, tmp_path, measured):
    made = view(measured["influence"], title="</script> 注意力 😀")
    page, root = opened(browser, tmp_path, made)
    root.locator('[data-layer="3"]').click()
    words(root).nth(5).click()
    before = root.get_attribute("data-state")
    with page.expect_download() as download:
        root.get_by_role("button", name="page").click()
    copy = tmp_path / "copy.html"
    download.value.save_as(copy)
    page.goto(copy.as_uri())
    root.wait_for()
    assert root.get_attribute("data-state") == before
    assert root.locator(".bv-note").inner_text() == "</script> 注意力 😀"
    told = "sentence-transformers/all-MiniLM-L6-v2 · layer 3 · exact · torch .*, transformers .* · BERT anatomy"
    assert re.fullmatch(told, caption(root))
    assert page.problems == []


def test_the_address_of_a_page_holds_what_is_chosen(browser, tmp_path, measured, parts):
    page, root = opened(browser, tmp_path, view(measured["influence"], **parts))
    root.locator('[data-layer="3"]').click()
    words(root).nth(5).click()
    switched(root, "map")
    root.locator("[data-head]").first.click()
    before, address = state(root), page.url
    other = page.context.new_page()
    other.goto(address)
    again = other.locator('.bv[data-ready="ready"]')
    again.wait_for()
    assert state(again) == before and before["drawing"] == "map" and before["head"] is not None
    other.goto(page.url.split("#")[0] + "#layer=99&target=-1&source=x&drawing=<b>&own=maybe")
    other.reload()
    again.wait_for()
    assert selected(again)[0] == 0 and state(again)["drawing"] == "arcs", "nonsense changes nothing"


@pytest.mark.parametrize("drawing", ["arcs", "map", "lines"])
def test_a_picture_says_what_it_shows(browser, tmp_path, measured, drawing):
    made = view(measured["influence"], layer=2, source=4, drawing=drawing)
    page, root = opened(browser, tmp_path, made)
    with page.expect_download() as download:
        root.get_by_role("button", name="SVG").click()
    download.value.save_as(tmp_path / "a.svg")
    tree = ElementTree.parse(tmp_path / "a.svg").getroot()
    texts = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    for told in (
        TEXT,
        caption(root),
    ):
        assert told in texts
    assert {"moves", "most", "world"} <= set(texts)
    paths = len(list(tree.iter("{http://www.w3.org/2000/svg}path")))
    rects = len(list(tree.iter("{http://www.w3.org/2000/svg}rect")))
    assert {"arcs": paths >= 6, "map": rects > 64, "lines": paths >= 7 + 12}[drawing]
    with page.expect_download() as download:
        root.get_by_role("button", name="PNG").click()
    download.value.save_as(tmp_path / "a.png")
    image = imread(tmp_path / "a.png")
    assert image.shape[1] == 2000 and image.std() > 0.01
    assert page.problems == []


def compared(browser, folder, measured, **options):
    context = options.pop("context", {})
    made = view(measured["influence"], second=measured["second"], **options)
    return opened(browser, folder, made, **context)


def test_compare_shows_both_sentences_and_what_changes_most(browser, tmp_path, measured):
    first, second = measured["influence"], measured["second"]
    page, root = compared(browser, tmp_path, measured, layer=2)
    columns = [c.locator("bdi").all_inner_texts() for c in root.locator(".bv-column").all()]
    assert columns[2] == ["world", "moon"] and columns[5] == ["word", "word"] and len(columns) == 8
    tops = [c.bounding_box()["x"] for c in root.locator(".bv-column").all()]
    assert tops == sorted(tops), "aligned, one line"
    assert "'world' / 'moon'" in root.locator(".bv-note").inner_text()
    far = (first.values[2] / 384).sqrt().numpy(), (second.values[2] / 384).sqrt().numpy()
    size = abs(far[1] - far[0])
    size[[0, 7]] = size[:, [0, 7]] = 0
    np.fill_diagonal(size, 0)
    rows = root.locator(".bv-change").all()
    for row, place in zip(rows, size.ravel().argsort()[::-1][:3], strict=True):
        t, s = divmod(int(place), 8)
        assert row.get_attribute("data-pair") == f"{t} {s}"
        assert f"{far[0][t, s]:.2g}"[:4] in row.inner_text()
    assert headline(root).startswith("With moon for world, ")
    assert root.locator(".bv-arcs .bv-shown").count() == 6
    cell(root, 2, 5).hover()
    there, ratio = re.search(r"in the second (\S+) \(× (\S+)\)", hint(root)).groups()
    assert float(there) == pytest.approx(float(second.values[2, 2, 5]), rel=0.006)
    assert float(ratio) == pytest.approx(
        float(second.values[2, 2, 5] / first.values[2, 2, 5]), rel=0.006
    )
    rows[1].click()
    assert selected(root)[1:] == [int(n) for n in rows[1].get_attribute("data-pair").split()]
    before = cell(root, 2, 5).get_attribute("style")
    display(root, "what changes in the second")
    assert cell(root, 2, 5).get_attribute("style") != before
    assert root.locator(".bv-column").count() == 0 and "moves" in headline(root)
    assert page.problems == []


def test_what_cannot_be_compared_is_drawn_and_said(browser, tmp_path, measured, parts):
    """Through all layers and a head are known for the first alone: its colours, and a word."""
    page, root = compared(browser, tmp_path, measured, layer=2, **parts)
    root.locator('[data-layer="all"]').click()
    coloured = root.locator('[data-cell][style*="background"]')
    assert coloured.count() == 56
    assert "was not measured through all layers" in hint(root)
    root.locator('[data-layer="2"]').click()
    root.locator("[data-head]").first.hover()
    assert coloured.count() == 56 and "Heads are known for the first alone" in hint(root)
    assert page.problems == []


def test_colours_of_changes_have_a_scale_for_each_layer(browser, tmp_path, measured):
    page, root = compared(browser, tmp_path, measured, layer=0)
    ends = []
    for layer in (0, 4):
        root.locator(f'[data-layer="{layer}"]').click()
        ends.append(root.locator(".bv-legend span").all_inner_texts())
        beyond, of = re.search(
            r"(\d+) of (\d+) lie beyond", root.locator(".bv-legend").inner_text()
        ).groups()
        ratio = (measured["second"].values[layer] / measured["influence"].values[layer]).numpy()
        size = abs(np.log2(ratio[~np.eye(8, dtype=bool)]))
        assert int(of) == 56 and 1 <= int(beyond) <= 3
        assert 2 ** np.sort(size)[52] == pytest.approx(float(ends[-1][-1][2:]), rel=0.01)
    assert ends[0] != ends[1]
    switched(root, "lines")
    assert "Width: how much it changes" in root.locator(".bv-legend").inner_text()
    assert root.locator(".bv-lines path.bv-mine").first.get_attribute("style").startswith("stroke:")
    assert page.problems == []


def test_two_models_are_called_by_their_names(browser, tmp_path, measured):
    names = ("MiniLM", "a wide model")
    page, root = compared(browser, tmp_path, measured, layer=2, names=names)
    assert "MiniLM and a wide model" in root.locator(".bv-eyebrow").inner_text()
    cell(root, 2, 5).hover()
    assert "in a wide model" in hint(root) and page.problems == []


def test_word_pieces_are_joined_by_sums(browser, tmp_path):
    values = np.random.default_rng(0).random((1, 5, 5))
    page, root = opened(
        browser, tmp_path, view(values, ["[CLS]", "token", "##ization", "works", "[SEP]"])
    )
    display(root, "word pieces joined")
    expected = ["[CLS]", "tokenization", "works", "[SEP]"]
    assert words(root).locator("bdi").all_inner_texts() == expected
    label = plain(cell(root, 1, 2, 4).get_attribute("aria-label"))
    assert label.startswith("works → tokenization")
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
    assert words(root).locator("bdi").all_inner_texts() == HARD
    assert root.locator("img, b.x, .bv-note b").count() == 0
    switched(root, "lines")
    assert root.locator(".bv-lines text[data-word='3']").first.text_content().endswith("注意力")
    assert page.problems == []


PLACES_IN_TEXT = """({ firstChild: node }, parts) => parts.map(part => {
    const range = document.createRange(), at = node.data.indexOf(part);
    range.setStart(node, at);
    range.setEnd(node, at + part.length);
    return range.getBoundingClientRect().left; })"""
ARABIC = ["[CLS]", "قرأت", "الطالبة", "الكتاب", ".", "[SEP]"]


def test_right_to_left_words_do_not_turn_a_statement_round(browser, tmp_path):
    values = np.ones((1, 6, 6))
    values[0, 3, 1] = 5
    page, root = opened(browser, tmp_path, view(values, ARABIC, source=1))
    told = root.locator("h3 b").first
    assert plain(told.inner_text()) == "قرأت → الكتاب in each layer"
    places = told.evaluate(PLACES_IN_TEXT, ["قرأت", "→", "الكتاب", "in each"])
    assert places == sorted(places), "the arrow points from the source, left, to the target"
    assert root.locator(".bv-sentence").get_attribute("dir") == "rtl"
    places = [word.bounding_box()["x"] for word in words(root).all()]
    assert places == sorted(places, reverse=True), "the sentence runs as its text does"
    cell(root, 3, 1, 6).hover()
    assert (
        root.locator(".bv-hint").inner_text().startswith("\u2068قرأت\u2069 → \u2068الكتاب\u2069:")
    )
    words(root).nth(1).focus()
    page.keyboard.press("ArrowLeft")
    assert words(root).nth(2).evaluate("e => e === document.activeElement"), "left is onwards"
    assert page.problems == []


@pytest.mark.parametrize("width", [340, 600, 900, 1400])
@pytest.mark.parametrize("seq", [3, 13, 64])
def test_nothing_leaves_the_page_at_any_width(browser, tmp_path, width, seq):
    tokens = [f"word{i}" for i in range(seq)]
    shown = view(np.random.default_rng(0).random((12, seq, seq)), tokens, drawing="map")
    page, root = opened(browser, tmp_path, shown, viewport={"width": width, "height": 800})
    wide = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    box = root.locator("[data-cell]").first.bounding_box()
    assert box["width"] >= 11 and abs(box["width"] - box["height"]) < 1.5
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.problems == []
    page.context.close()


def test_a_map_of_63_tokens_is_whole(browser, tmp_path):
    paths = [{"value": np.ones((63, 63)), "key": np.ones((63, 63))}]
    shown = view(np.ones((1, 63, 63)), [f"word{i}" for i in range(63)], paths=paths)
    _, root = opened(browser, tmp_path, shown, viewport={"width": 1100, "height": 800})
    hidden = root.locator(".bv-map").evaluate("e => e.scrollWidth - e.clientWidth")
    assert hidden <= 0, "all of it is seen"


def test_no_letter_is_clipped_in_labels(shown):
    _, root = shown
    sizes = root.locator(".bv-label.bv-side").evaluate_all(
        "all => all.map(e => [e.scrollHeight, e.clientHeight, e.scrollWidth, e.clientWidth])"
    )
    assert all(s[0] <= s[1] and s[2] <= s[3] for s in sizes)
    look = "e => [parseFloat(getComputedStyle(e).lineHeight) / parseFloat(getComputedStyle(e).fontSize)]"
    assert root.locator(".bv-label.bv-side").first.evaluate(look)[0] >= 1.2


def test_long_words_are_whole_in_the_lines(browser, tmp_path):
    long = "donaudampfschifffahrts"
    page, root = opened(
        browser, tmp_path, view(np.ones((1, 3, 3)), ["a", long, "b"], drawing="lines")
    )
    frame = root.locator(".bv-lines").bounding_box()
    for text in root.locator(".bv-lines text").all():
        box = text.bounding_box()
        assert box["x"] >= frame["x"] - 1
        assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
    assert long in root.locator(".bv-lines text[data-word='1']").first.text_content()
    assert page.problems == []


def test_a_long_text_is_shown_through_a_window(browser, tmp_path):
    values = np.random.default_rng(0).random((2, 150, 150))
    shown = view(values, [f"w{i}" for i in range(150)], source=100)
    page, root = opened(browser, tmp_path, shown)
    assert words(root).count() == 64
    assert "Tokens 69 to 132 of 150" in root.locator(".bv-window").inner_text()
    label = plain(cell(root, 1, 2, 64).get_attribute("aria-label"))
    assert label.startswith("w70 → w69")
    assert number(label) == pytest.approx(values[0, 69, 70], rel=0.006)
    assert root.locator(".bv-shares p").inner_text().startswith("Of these 64:")
    words(root).nth(60).click()
    assert "Tokens 69 to 132" in root.locator(".bv-window").inner_text(), "a click moves nothing"
    root.get_by_role("button", name="later").click()
    assert "Tokens 87 to 150 of 150" in root.locator(".bv-window").inner_text()
    root.get_by_role("button", name="earlier").click()
    assert selected(root)[2] < 87 and words(root).count() == 64
    assert page.problems == []


def test_a_tap_shows_the_answer_and_everything_is_large_enough(browser, tmp_path, measured, parts):
    made = view(measured["influence"], **parts, layer=2)
    page, root = opened(
        browser, tmp_path, made, viewport={"width": 390, "height": 844}, has_touch=True
    )
    for thing in root.locator("button:visible, summary:visible").all():
        box = thing.bounding_box()
        assert box["height"] >= 40 and box["width"] >= 40, thing.inner_text()
    words(root).nth(5).tap()
    assert headline(root).startswith("word moves")
    for place in (".bv-headline", ".bv-stage"):
        box = root.locator(place).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 844, "the answer is on screen"
    assert page.problems == []


def spoken_pair(root):
    return plain(root.locator("h3").first.inner_text())


def places(root):
    """Where each word stands in the sentence, and where the sentence stands on the page."""
    inside = root.locator(".bv-chip").evaluate_all(
        "all => all.map(e => [e.offsetLeft, e.offsetTop])"
    )
    return inside, root.locator(".bv-stage").bounding_box()["y"]


def test_one_tap_keeps_a_word_and_nothing_moves_under_the_finger(browser, tmp_path):
    tokens = ["a", "the", "extraordinarily", "long", "acknowledgements", "of", "it"]
    values = np.random.default_rng(0).random((2, 7, 7))
    phone = {"width": 390, "height": 844}
    page, root = opened(browser, tmp_path, view(values, tokens), viewport=phone, has_touch=True)
    looks = [places(root)]
    for i in (1, 4, 2, 0):
        words(root).nth(i).tap()
        assert selected(root)[2] == i and headline(root).startswith(f"{tokens[i]} moves")
        assert words(root).nth(i).get_attribute("aria-pressed") == "true"
        assert spoken_pair(root).startswith(f"{tokens[i]} →")
        looks.append(places(root))
    assert all(look == looks[0] for look in looks)
    assert hint(root) == "Tap a word to see what it sends."
    assert page.problems == []


def test_reset_brings_the_first_picture_back(browser, tmp_path, measured):
    page, root = opened(browser, tmp_path, view(measured["influence"], source=4))

    def picture():
        arcs = "all => all.map(e => e.getAttribute('d'))"
        return places(root)[0], root.locator(".bv-shown path").evaluate_all(arcs)

    first = picture()
    for drawing in ("map", "lines"):
        switched(root, drawing)
        switched(root, "receives")
        words(root).nth(2).click()
        root.get_by_role("button", name="reset").click()
        assert picture() == first
        switched(root, drawing)
        switched(root, "arcs")
        assert picture() == first
    assert page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_word_moves_whichever_is_chosen(browser, tmp_path, scheme):
    inside = ["beijing", "is", "the", "capital", "of", "china", ",", "said", "the", "man", "."]
    tokens = ["[CLS]", *inside, "[SEP]"]
    shown = view(np.random.default_rng(0).random((2, 13, 13)), tokens, source=6)
    page, root = opened(browser, tmp_path, shown, color_scheme=scheme)
    for width in (500, 660, 740, 1040):
        page.set_viewport_size({"width": width, "height": 1500})
        root.get_by_role("button", name="reset").click()
        first, _ = places(root)
        switched(root, "receives")
        for i in (1, 12):
            words(root).nth(i).click()
            assert places(root)[0] == first, f"{width} wide, word {i}"
        switched(root, "sends")
        root.get_by_role("button", name="reset").click()
        assert places(root)[0] == first
    assert page.problems == []


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    r, g, b = (part / 12.92 if part < 0.04 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


CONTRAST = """() => [...document.querySelectorAll(
    '.bv-chip, .bv-headline *, .bv-under, .bv-legend p, .bv-hint, .bv-eyebrow, .bv-foot span')]
    .map(node => {
    let back = node;
    while (getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
    return [getComputedStyle(node).color, getComputedStyle(back).backgroundColor]; })"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(browser, tmp_path, measured, scheme):
    page, _ = opened(browser, tmp_path, view(measured["influence"]), color_scheme=scheme)
    back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (luminance(back) < 0.2) == (scheme == "dark")
    for text, behind in page.evaluate(CONTRAST):
        light, dark = sorted([luminance(text), luminance(behind)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.4, (text, behind)


def test_equal_is_near_the_paper_in_both_themes(browser, tmp_path, measured):
    for scheme in ("light", "dark"):
        same = view(measured["influence"], second=measured["influence"])
        page, root = opened(browser, tmp_path, same, color_scheme=scheme)
        paper = luminance(root.evaluate(COLOUR))
        assert abs(luminance(cell(root, 2, 3).evaluate(COLOUR)) - paper) < 0.1
        page.context.close()


def test_print_keeps_the_colours_and_is_light(browser, tmp_path, measured):
    page, root = opened(browser, tmp_path, view(measured["influence"]), color_scheme="dark")
    on_screen = cell(root, 2, 3).evaluate(COLOUR)
    changed = "e => getComputedStyle(e).backgroundColor !== 'rgb(25, 23, 25)'"
    page.emulate_media(media="print")
    page.wait_for_function(f"() => ({changed})(document.querySelector('.bv'))")
    assert luminance(root.evaluate(COLOUR)) > 0.8, "white paper"
    assert root.evaluate("e => getComputedStyle(e).printColorAdjust") == "exact"
    assert cell(root, 2, 3).evaluate("e => getComputedStyle(e).printColorAdjust") == "exact"
    assert cell(root, 2, 3).evaluate(COLOUR) != on_screen
    page.emulate_media(media="screen")
    page.wait_for_function(f"() => !({changed})(document.querySelector('.bv'))")
    assert cell(root, 2, 3).evaluate(COLOUR) == on_screen and page.problems == []


def test_forced_colours_keep_the_map(browser, tmp_path, measured):
    page, root = opened(browser, tmp_path, view(measured["influence"]), forced_colors="active")
    colours = {root.locator(f'[data-cell="{i}"]').evaluate(COLOUR) for i in (8, 17, 26, 35, 44)}
    assert len(colours) > 2
    switched(root, "receives")
    assert state(root)["direction"] == "receives"
    assert page.problems == []


def test_without_scripts_a_page_says_so(browser, tmp_path, measured):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(save_page(measured["influence"], tmp_path / "a.html").as_uri())
    assert "this browser runs none" in page.locator("body").inner_text()


def test_an_array_is_told_in_its_own_words(browser, tmp_path):
    values = np.full((2, 3, 3), np.nan)
    values[:, :, 0] = [0.2, 0.5, 0.1]
    shown = view(values, ["a", "b", "c"], label="attention", layers=["early", "late"])
    page, root = opened(browser, tmp_path, shown)
    assert headline(root) == "In the column of a, attention is largest in the row of b"
    assert root.locator("[data-layer]").all_inner_texts() == ["early", "late"]
    assert "as far as" not in root.inner_text() and "attention 0.5" in root.inner_text()
    words(root).nth(1).click()
    assert headline(root) == "Not measured: what b moves"
    assert cell(root, 0, 1, 3).get_attribute("aria-label").endswith("not measured")
    assert page.problems == []


def test_the_two_texts_of_a_pair_stand_apart(browser, tmp_path):
    tokens = ["[CLS]", "who", "[SEP]", "they", "[SEP]"]
    page, root = opened(browser, tmp_path, view(np.ones((1, 5, 5)), tokens))
    boxes = [word.bounding_box() for word in words(root).all()]
    gaps = [b["x"] - a["x"] - a["width"] for a, b in pairwise(boxes)]
    assert gaps[2] > 20 and max(gaps[0], gaps[1], gaps[3]) < 10
    line = "e => getComputedStyle(e).borderTopWidth"
    assert cell(root, 3, 1, 5).evaluate(line) == "2px" != cell(root, 2, 1, 5).evaluate(line)
    assert page.problems == []


# ----------------------------------------------------------------- with a kernel that is played here

LIVE = """async ([code, state]) => {
    const { default: { render } } = await import('data:text/javascript;charset=utf-8,'
        + encodeURIComponent(code));
    const listeners = {}, sent = [];
    document.body.innerHTML = '<div id="live"></div>';
    window.kernel = { sent, messages: [], set(changes) {
        Object.assign(state, changes);
        for (const key of Object.keys(changes)) listeners['change:' + key]?.();
    }, tell: message => listeners['msg:custom'](message) };
    render({ el: document.getElementById('live'), model: { get: key => state[key],
        set(key, value) { state[key] = value; sent.push(key); listeners['change:' + key]?.(); },
        on(event, act) { listeners[event] = act; }, off() {}, save_changes() {},
        send: message => window.kernel.messages.push(message.wanted) } }); }"""
NUMBERS = {"text": TEXT, "second": "", "method": "exact", "samples": 20, "sigma": 0.01}


def key(**changes):
    return json.dumps([*(NUMBERS | changes).values()])


def state_of(shown, of, layers="all"):
    """As an explorer sends it."""
    made = json.loads(json.dumps(shown.state)) | {"live": True, "status": {"state": "ready"}}
    for part in ("data", "through", "why", "second"):
        made[part]["of"] = of
    if layers != "all":
        kept = {n: why for n, why in made["why"]["layers"].items() if n in layers}
        made["why"]["layers"] = kept
    made["settings"] = made["settings"] | NUMBERS
    return made


@pytest.fixture
def live(browser, tmp_path, measured, parts):
    page, _ = opened(browser, tmp_path, view(measured["influence"]))
    page.clock.install()
    made = state_of(view(measured["influence"], **parts, layer=2, source=4), key(), "2")
    page.evaluate(LIVE, [JS, made])
    page.add_style_tag(path=Path(_view.__file__).parent / "view.css")
    yield page, page.locator("#live .bv")
    assert page.problems == []
    page.context.close()


def kernel(page, **changes):
    page.evaluate("changes => kernel.set(changes)", changes)


def test_a_page_with_the_reasons_of_one_layer_says_so_of_the_others(
    browser, tmp_path, measured, parts
):
    """As the html beside a widget has it."""
    whole = view(measured["influence"], **parts, layer=2, source=4).state
    why = {"of": "", "layers": {"2": whole["why"]["layers"]["2"]}}
    page, root = opened(browser, tmp_path, _view.View(whole | {"why": why}))
    assert root.locator(".bv-why [data-path]").count()
    root.locator('[data-layer="3"]').click()
    assert "not asked for before the page was saved" in root.locator(".bv-why").inner_text()
    root.locator('[data-layer="2"]').click()
    assert root.locator(".bv-why [data-path]").count()
    assert page.problems == []
    page.context.close()


def test_another_sentence_in_the_box_dims_the_old_picture(live):
    page, root = live
    assert float(root.locator(".bv-stage").evaluate("e => getComputedStyle(e).opacity")) == 1
    root.get_by_label("Sentence", exact=True).fill("Something else.")
    page.clock.run_for(300)
    assert float(root.locator(".bv-stage").evaluate("e => getComputedStyle(e).opacity")) < 0.6
    assert root.get_by_role("alert").count() == 0
    page.clock.run_for(6000)
    assert "Python does not answer" in root.get_by_role("alert").inner_text()
    root.get_by_label("Sentence", exact=True).fill(TEXT)
    page.clock.run_for(300)
    assert float(root.locator(".bv-stage").evaluate("e => getComputedStyle(e).opacity")) == 1
    assert "Python" not in root.locator(".bv-status").inner_text()


def test_a_true_picture_stays_bright_until_its_paths_arrive(live):
    page, root = live
    root.locator('[data-layer="3"]').click()
    kernel(page, status={"state": "busy", "text": "Computing …", "done": 0.5})
    assert float(root.locator(".bv-stage").evaluate("e => getComputedStyle(e).opacity")) == 1
    assert "Computing paths and heads" in root.locator(".bv-why").inner_text()


def test_a_computation_moves_nothing(live):
    page, root = live
    before = root.locator(".bv-stage").bounding_box()
    kernel(page, status={"state": "more", "text": "Computing the way through …", "done": 0.5})
    assert root.get_by_role("button", name="stop", exact=True).is_visible()
    assert root.locator(".bv-stage").bounding_box() == before


def test_an_old_choice_and_old_paths_do_no_harm_in_a_new_sentence(live, minilm):
    """Messages come one by one: the numbers of a shorter sentence before its choice and its paths."""
    page, root = live
    words(root).nth(7).click()
    kernel(page, settings=json.loads(root.get_attribute("data-state")) | {"text": "Hi."})
    short = layer_influence(minilm[0], encode(minilm[1], "Hi."), progress=quiet)
    kernel(page, data=state_of(view(short), key(text="Hi."))["data"])
    assert words(root).count() == 4 and root.locator("[data-head], [data-path]").count() == 0
    chosen = root.locator(".bv-chip.bv-chosen bdi").inner_text()
    assert headline(root).startswith(chosen), "the text names the word that is marked"
    assert "Computing" in root.locator(".bv-why").inner_text()


def test_a_changed_second_sentence_keeps_the_way_through(live, measured):
    page, root = live
    root.locator('[data-layer="all"]').click()
    value = root.locator("h3").first.inner_text()
    new = key(second="Another.")
    kernel(page, settings=state(root) | {"second": "Another."})
    kernel(page, data=state_of(view(measured["influence"]), new)["data"])
    assert root.locator("h3").first.inner_text() == value
    assert "influence through all layers" in value


def test_enter_in_an_unchanged_box_asks_again_after_a_stop(live):
    page, root = live
    box = root.get_by_label("Sentence", exact=True)
    box.fill("Something else.")
    page.clock.run_for(300)
    kernel(page, status={"state": "stopped", "text": "Stopped."})
    box.press("Enter")
    assert page.evaluate("kernel.messages") == ["again"]


def test_layers_that_are_not_known_yet_are_said_to_be_so(live, measured):
    """The shown layer comes first: a scale for all layers cannot be promised then."""
    page, root = live
    legend = root.locator(".bv-legend")
    assert "One scale for all layers" in legend.text_content()
    some = measured["influence"].values.clone()
    some[0] = float("nan")
    partial = replace(measured["influence"], values=some)
    kernel(page, data=state_of(view(partial), key())["data"])
    assert "One scale for the layers measured so far" in legend.text_content()
    root.locator('[data-layer="0"]').click()
    assert headline(root).startswith("Not measured")
    kernel(page, data=state_of(view(measured["influence"]), key())["data"])
    assert "One scale for all layers" in legend.text_content()
    assert " moves " in headline(root) and "Not measured" not in headline(root)


def test_enter_asks_again_after_a_stop_between_the_layers(live):
    page, root = live
    box = root.get_by_label("Sentence", exact=True)
    box.press("Enter")
    assert page.evaluate("kernel.messages") == [], "all is there"
    kernel(page, status={"state": "stopped", "text": "Stopped."})
    box.press("Enter")
    assert page.evaluate("kernel.messages") == ["again"]


def test_saving_a_page_says_what_it_does(live):
    page, root = live
    root.get_by_role("button", name="page").click()
    assert "Writing the page" in root.locator(".bv-status").inner_text()
    page.evaluate("kernel.tell({})")
    assert "Writing" not in root.locator(".bv-status").inner_text()


# ------------------------------------------------------------------------- its functions, without DOM


@pytest.fixture(scope="module")
def pure(browser):
    """Call a function of the module with plain values."""
    page = browser.new_page()
    call = """async ([code, name, args]) => (await import('data:text/javascript;charset=utf-8,'
        + encodeURIComponent(code)))[name](...args)"""
    yield lambda name, *args: page.evaluate(call, [JS, name, args])
    page.close()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (18.7123, "18.7"),
        (0.00123, "0.00123"),
        (-0.437, "−0.437"),
        (3.6e-10, "4 × 10⁻¹⁰"),
        (12345, "12300"),
        (-2e-5, "−2 × 10⁻⁵"),
    ],
)
def test_numbers_are_readable(pure, value, text):
    assert pure("digits", value) == text


def test_shares_add_up_and_the_word_itself_is_out(pure):
    order = pure("ranked", [1, 100, 4, 0, 5], 1, 4)
    assert [one["i"] for one in order] == [4, 2, 0]
    assert sum(one["share"] for one in order) == pytest.approx(1)
    assert order[0]["far"] == pytest.approx((5 / 4) ** 0.5)


def test_arcs_do_not_cross(pure):
    """Semicircles over one line, from every word to any others: their ends nest."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(4, 15))
        boxes = [{"x": 60 * i, "y": 100, "w": 50, "h": 40} for i in range(n)]
        word = int(rng.integers(n))
        others = [i for i in rng.permutation(n).tolist() if i != word][:5]
        shown = [{"i": i, "value": 1.0 + k} for k, i in enumerate(others)]
        ends = []
        for arc in pure("arcsOf", shown, boxes, word, True, 9.0):
            start = float(re.match(r"M([\d.]+)", arc["d"])[1])
            end = float(re.match(r"M([\d.]+)", arc["tip"])[1])
            ends.append(sorted((start, end)))
        for a, b in combinations(ends, 2):
            apart = a[1] <= b[0] or b[1] <= a[0]
            inside = (a[0] <= b[0] and b[1] <= a[1]) or (b[0] <= a[0] and a[1] <= b[1])
            assert apart or inside, (a, b)


def test_lanes_between_lines_do_not_cross(pure):
    rng = np.random.default_rng(1)
    for _ in range(50):
        boxes = [
            {"x": 90 * (i % 6) + 30 * (i // 6), "y": 100 * (i // 6) + 50, "w": 50, "h": 40}
            for i in range(18)
        ]
        word = int(rng.integers(18))
        others = [i for i in rng.permutation(18).tolist() if i != word][:4]
        shown = [{"i": i, "value": 1.0} for i in others]
        lines = [segments(arc["d"]) for arc in pure("arcsOf", shown, boxes, word, True, 1.0)]
        for first, second in combinations(lines, 2):
            assert not [1 for a in first for b in second if crosses(a, b)]


def test_between_lines_an_arrow_has_room_for_its_tip(pure):
    """As wide as it may be, beside the chosen word and with three others over its line."""
    boxes = [{"x": 60 * (i % 6), "y": 90 * (i // 6) + 38, "w": 50, "h": 52} for i in range(12)]
    for word, others in ((0, [1, 2, 3, 4]), (8, [7, 9, 10, 11])):
        shown = [{"i": i, "value": 1.0} for i in others]
        for arc in pure("arcsOf", shown, boxes, word, True, 1.0):
            lane = next(y for _, y, _, end in segments(arc["d"])[1:] if y == end)
            base = float(re.search(r"L[\d.]+,([\d.]+)", arc["tip"])[1])
            assert lane < base - 4, "its tip begins under its lane"


def segments(path):
    """The straight pieces of a path of V and H with round corners."""
    x, y = map(float, re.match(r"M([\d.-]+),([\d.-]+)", path).groups())
    pieces = []
    for kind, args in re.findall(r"([VHQ])([^VHQ]*)", path):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", args)]
        if kind == "Q":
            new = numbers[2], numbers[3]
        else:
            new = (x, numbers[0]) if kind == "V" else (numbers[0], y)
        if kind != "Q":
            pieces.append((x, y, *new))
        x, y = new
    return pieces


def crosses(a, b):
    """A flat piece and an upright one that meet inside both."""
    if (a[0] == a[2]) == (b[0] == b[2]):
        return False
    flat, up = (a, b) if a[1] == a[3] else (b, a)
    left, right = sorted((flat[0], flat[2]))
    low, high = sorted((up[1], up[3]))
    return left + 1 < up[0] < right - 1 and low + 1 < flat[1] < high - 1


def test_the_address_and_the_call_say_the_same(pure):
    settings = {"direction": "receives", "drawing": "lines", "own": True, "log": False, "head": 3}
    text = pure("toHash", settings, ["all", 4, 2])
    was = {"direction": "sends", "drawing": "arcs", "own": False, "log": True}
    data = {"tokens": list("abcde"), "layers": ["layer 0"]}
    back = pure(
        "fromHash",
        "#" + text,
        {"data": data, "settings": was, "selected": [0, 0, 0], "through": {"values": "AAAA"}},
    )
    assert back == {"settings": settings, "selected": ["all", 4, 2]}
    call = pure("callOf", {"call": "view(influence"}, settings, [1, 4, 2])
    assert call == (
        'view(influence, direction="receives", drawing="lines", own=True, log=False, layer=1, '
        "target=4, source=2)"
    )


def test_inserted_and_joined_words_are_aligned(pure):
    words = [{"text": "tokens", "at": [0, 1]}, {"text": "run", "at": [2]}]
    second = {
        "tokens": ["token", "##s", "often", "ran"],
        "columns": [[0, 0], [1, 1], [None, 2], [2, 3]],
    }
    found = pure("aligned", words, second)
    assert [(c["text"], c["other"], c["swapped"]) for c in found] == [
        ("tokens", "tokens", False),
        ("", "often", True),
        ("run", "ran", True),
    ]


def test_paths_that_take_away_are_drawn_back(pure):
    parts = [{"name": "value", "value": 3}, {"name": "key", "value": 1}]
    found = pure("stacked", [*parts, {"name": "interference", "value": -0.4}])
    assert found[2]["start"] == pytest.approx(0.9) and found[2]["size"] == pytest.approx(0.1)


def test_the_module_is_small_and_plain():
    lines = JS.splitlines()
    css = (Path(_view.__file__).parent / "view.css").read_text("utf-8").splitlines()
    code = [line for line in lines if not line.lstrip().startswith(("//", "/**", "* "))]
    assert len(code) <= 1244 and len(lines) <= 1454 and len(css) <= 300
    assert not [line for line in lines + css if len(line) > 100]
    starts = [i for i, line in enumerate(lines) if re.match(r"function |const .*=> \{$", line)]
    for start in starts:
        length = next(i for i, line in enumerate(lines[start:]) if line in ("}", "};")) + 1
        limit = 120 if lines[start].startswith("function render") else 60
        assert length <= limit, lines[start]
