"""The explorer without a browser: what is set is what is shown, on whatever thread; and nothing is left behind."""

import base64
import html
import json
import re
import threading

import nbformat
import numpy as np
import pytest
from conftest import snapshot, tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from helpers import (
    LayerJacobian,
    downstream_influence,
    edit,
    encode,
    explorer,
    layer_influence,
    layer_stack,
    record,
    save_page,
    upstream_influence,
)
from helpers.interactive import KeptStack, _measured
from helpers.interactive._explorer import MADE, NUMBERS, WIDGET
from helpers.interactive._measured import KEPT

module = __import__("sys").modules[
    "helpers.interactive._explorer"
]  # the name in the package is the function's


def quiet(steps, desc):
    return steps


@pytest.fixture
def model():
    return tiny_bert(vocab_size=30522, max_position_embeddings=128)


@pytest.fixture
def seen(model, minilm):
    return explorer(model, minilm[1], text="Hello world!")


def state_of(html_with_iframe):
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', html_with_iframe)[1])
    return json.loads(re.search(r'id="state">(.*?)</script>', page, re.S)[1])


def turn(seen, **changes):
    seen.settings = seen.settings | changes
    assert seen.wait(60)


def decoded(text, shape):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)


def shape(seen):
    seq = len(seen.data["tokens"])
    return len(seen.data["layers"]), seq, seq


def assert_up_to_date(seen):
    """What is on screen was measured with the settings as they are."""
    assert seen.status["state"] == "ready", seen.status
    sentence = encode(seen._measured.tokenizer, seen.settings["text"])
    assert seen.data["tokens"] == sentence.tokens
    method = seen.settings["method"]
    options = {"exact": (), "jvp": ("samples",), "noise": ("samples", "sigma")}[method]
    options = {name: seen.settings[name] for name in options}
    expected = layer_influence(
        seen._measured.model, sentence, method=method, progress=quiet, **options
    ).values
    assert np.allclose(decoded(seen.data["values"], shape(seen)), expected, rtol=1e-5)
    layer = seen.selected[0]
    of = {"data": seen.data, "second": seen.second, ("through" if layer == "all" else "why"): {}}
    of["through" if layer == "all" else "why"] = seen.through if layer == "all" else seen.why
    assert {json.dumps([seen.settings[name] for name in NUMBERS])} == {
        part["of"] for part in of.values()
    }
    if layer != "all":
        assert list(seen.why["layers"]) == [str(layer)]


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "A new one."},
        {"text": "a"},
        {"text": "word " * 62},
        {"text": "_ # $x^2$ <b> سلام 你好 😀"},
        {"second": "Hello moon!"},
        {"second": "  "},
        {"method": "noise", "sigma": 0.1, "samples": 5},
        {"method": "jvp", "samples": 3},
        {"own": True, "log": False, "words": True},
    ],
    ids=str,
)
def test_what_is_set_is_shown(seen, changes):
    turn(seen, **changes)
    assert_up_to_date(seen)
    assert (seen.data["stderr"] is None) == (seen.settings["method"] == "exact"), (
        "sampled numbers have errors"
    )


def test_paths_and_heads_are_those_of_the_selected_layer(seen):
    seen.selected = (0, 1, 2)
    assert seen.wait(20)
    jacobian = layer_stack(
        seen._measured.model, encode(seen._measured.tokenizer, "Hello world!")
    ).jacobian(0)
    found = seen.why["layers"]["0"]
    assert np.array_equal(decoded(found["paths"]["key"], shape(seen)[1:]), jacobian.paths()["key"])
    assert np.array_equal(decoded(found["heads"], (2, *shape(seen)[1:])), jacobian.heads())


@pytest.mark.parametrize("direction", ["sends", "receives"])
def test_through_all_layers_is_exact_for_the_selected_word_and_sampled_beside(seen, direction):
    turn(seen, direction=direction, samples=3)
    seen.selected = ("all", 3, 2)
    assert seen.wait(60)
    values, errors = (decoded(seen.through[name], shape(seen)[1:]) for name in ("values", "stderr"))
    sentence = encode(seen._measured.tokenizer, "Hello world!")
    exact = (
        downstream_influence(seen._measured.model, sentence, method="exact", progress=quiet)
        .values[-1]
        .numpy()
    )
    again = (
        upstream_influence(seen._measured.model, sentence, method="exact", progress=quiet)
        .values[0]
        .numpy()
    )
    assert np.allclose(exact, again, rtol=1e-4)
    line = (slice(None), 2) if direction == "sends" else (3, slice(None))
    assert np.allclose(values[line], exact[line], rtol=1e-4) and not errors[line].any()
    rest = np.ones_like(values, bool)
    rest[line] = False
    assert (errors[rest] > 0).all() and not np.allclose(values[rest], exact[rest], rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": ""}, "Type at least one word."),
        (
            {"text": "word " * 70},
            "72 tokens; the view labels 1 to 64. Shorten it, or use layer_influence.",
        ),
        ({"second": "word " * 70}, "72 tokens; the view labels 1 to 64."),
        ({"method": "noise", "sigma": 0}, "sigma"),
        ({"method": "noise", "sigma": -1}, "sigma"),
        ({"method": "noise", "sigma": "small"}, "sigma"),
        ({"method": "jvp", "samples": 1}, "samples"),
        ({"method": "jvp", "samples": True}, "samples"),
        ({"method": "noise", "samples": 2.5}, "samples"),
        ({"method": "noise", "samples": "many"}, "samples"),
        ({"method": "magic"}, "method"),
    ],
    ids=str,
)
def test_an_error_keeps_the_last_picture_and_goes_with_the_next_good_input(seen, changes, told):
    before = seen.data
    turn(seen, **changes)
    assert (
        seen.status["state"] == "error"
        and told in seen.status["text"]
        and "trace" not in seen.status
    )
    assert seen.data is before
    turn(seen, text="Good again!", second="", method="exact", sigma=0.01, samples=20)
    assert_up_to_date(seen)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ({"layer": -1}, "expected a layer from 0 to 1, got -1"),
        ({"layer": 2}, "expected a layer from 0 to 1, got 2"),
        ({"layer": True}, "expected a layer, a whole number from 0 to 1, got True"),
        ({"layer": "first"}, "expected a layer, a whole number from 0 to 1, got 'first'"),
        ({"target": 5}, "expected a position of the sentence from 0 to 4, got 5"),
        ({"source": -1}, "expected a position of the sentence from 0 to 4, got -1"),
        ({"source": True}, "expected a position of the sentence, a whole number .* got True"),
        ({"drawing": "pie"}, "got drawing='pie'"),
        ({"size": 2}, r"got \['size'\]"),
        ({"text": ""}, "Type at least one word."),
    ],
    ids=str,
)
def test_a_start_that_is_not_there_is_refused_and_leaves_nothing(model, minilm, start, told):
    before = threading.active_count(), len(MADE)
    with pytest.raises(ValueError, match=told):
        explorer(model, minilm[1], **{"text": "Hello world!"} | start)
    assert (threading.active_count(), len(MADE)) == before


def test_the_layer_at_first_is_the_second_one_or_the_only_one(model, seen, minilm):
    assert seen.selected[0] == 1
    one = tiny_bert(vocab_size=30522, num_hidden_layers=1)
    assert explorer(one, minilm[1], text="Hello world!").selected[0] == 0
    through = explorer(model, minilm[1], text="Hello world!", layer="all", source=2)
    assert through.selected[::2] == ("all", 2) and through.through["of"] == through.data["of"]


def test_a_switch_that_is_not_there_is_refused_where_it_is_set(seen):
    before = seen.settings
    with pytest.raises(ValueError, match="got direction='up'"):
        seen.settings = before | {"direction": "up"}
    assert seen.settings == before


def test_one_sample_is_refused_through_all_layers_too(seen):
    turn(seen, samples=1)
    assert_up_to_date(seen)
    seen.selected = ("all", 3, 2)
    assert seen.wait(60) and seen.status["state"] == "error" and "samples" in seen.status["text"]


def test_a_failure_inside_is_shown_with_its_trace(seen, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("<b>boom</b>")

    monkeypatch.setattr(_measured, "layer_influence", fail)
    fail.__name__ = "fail"
    turn(seen, text="Another one.")
    assert seen.status["text"] == "RuntimeError" and "<b>boom</b>" in seen.status["trace"]


def test_the_selection_follows_its_words_into_a_new_sentence(seen):
    turn(seen, text="Hello world of words!")
    seen.selected = (1, 4, 2)  # words <- world
    assert seen.wait(20)
    turn(seen, text="Oh, hello to the world of words!")
    tokens = seen.data["tokens"]
    assert [tokens[i] for i in seen.selected[1:]] == ["words", "world"]
    turn(seen, text="Bye.")
    assert seen.selected[2] == 1, "the first word where the old one is gone"


@pytest.mark.parametrize("wrong", [(7, 0, 0), (0, 40, 1), (1, -1, 2)])
def test_a_click_on_the_sentence_before_this_one_does_no_harm(seen, wrong):
    seen.set_state({"selected": list(wrong)})
    assert seen.wait(20)
    layer, target, source = seen.selected
    assert layer in (0, 1) and target in range(5) and source in range(5)
    assert_up_to_date(seen)


ACTIONS = st.one_of(
    st.fixed_dictionaries(
        {"text": st.sampled_from(["", "One.", "One two.", "Two one two.", "w " * 70, "一 二"])}
    ),
    st.fixed_dictionaries({"second": st.sampled_from(["", " ", "One two.", "Three."])}),
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(["exact", "jvp", "noise"]),
            "samples": st.sampled_from([1, 2, 4]),
        }
    ),
    st.fixed_dictionaries(
        {"direction": st.sampled_from(["sends", "receives"]), "words": st.booleans()}
    ),
    st.tuples(st.sampled_from([0, 1, "all"]), st.integers(0, 9), st.integers(0, 9)),
)


@given(st.lists(ACTIONS, min_size=2, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
@settings(max_examples=15, deadline=None)
def test_no_stale_picture_after_any_sequence_of_inputs(minilm, actions, waits):
    seen = explorer(
        tiny_bert(vocab_size=30522, max_position_embeddings=128), minilm[1], text="Hello world!"
    )
    for action, wait in zip(actions, waits, strict=False):
        if isinstance(action, dict):
            seen.settings = seen.settings | action
        else:
            seen.selected = action
        if wait:
            assert seen.wait(60)
    assert seen.wait(60)
    text, method = seen.settings["text"], seen.settings["method"]
    sampled = method != "exact" or seen.selected[0] == "all"
    bad = text in ("", "w " * 70) or (sampled and seen.settings["samples"] < 2)
    assert seen.status["state"] == ("error" if bad else "ready"), seen.status
    if not bad:
        assert_up_to_date(seen)
    seen.close()


class Slow:
    """Holds the first measurement until released, and counts how many run at once."""

    def __init__(self, experiment):
        self.experiment, self.entered, self.release = (
            experiment,
            threading.Event(),
            threading.Event(),
        )
        self.running = self.most = 0
        self.texts, self.finished = [], []
        self.__name__ = experiment.__name__

    def __call__(self, model, sentence, *, progress, **options):
        def held(steps, desc):
            for step in progress(steps, desc):
                if not self.entered.is_set():
                    self.entered.set()
                    assert self.release.wait(20)
                yield step

        self.running += 1
        self.most = max(self.most, self.running)
        self.texts.append(" ".join(sentence.tokens[1:-1]))
        try:
            found = self.experiment(model, sentence, progress=held, **options)
            self.finished.append(self.texts[-1])
            return found
        finally:
            self.running -= 1


@pytest.fixture
def slow(monkeypatch):
    slow = Slow(_measured.layer_influence)
    monkeypatch.setattr(_measured, "layer_influence", slow)
    return slow


def test_one_measures_at_a_time_and_the_newest_input_wins(seen, slow):
    shown = []
    seen.observe(lambda change: shown.append(change.new["title"]), "data")
    seen.settings = seen.settings | {"text": "one"}
    assert slow.entered.wait(20)
    threads = [
        threading.Thread(
            target=lambda text=text: setattr(seen, "settings", seen.settings | {"text": text})
        )
        for text in ("two", "three")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.settings = seen.settings | {"text": "four"}
    assert seen.status["state"] == "busy" and "Computing" in seen.status["text"]
    slow.release.set()
    assert seen.wait(20)
    assert slow.most == 1 and slow.texts == ["one", "four", "four"], (
        "what was in between is never measured, the others layer by layer"
    )
    assert slow.finished == slow.texts, "what is superseded is given up after the layer at hand"
    assert shown == ["four", "four"], "and is never shown"
    assert_up_to_date(seen)


def test_stop_ends_a_measurement_and_says_so(seen, slow):
    before = seen.data
    seen.settings = seen.settings | {"text": "one two"}
    assert slow.entered.wait(20)
    seen._handle_custom_msg({"wanted": "stop"}, [])
    slow.release.set()
    assert seen.wait(20)
    assert seen.status == {"state": "stopped", "text": "Stopped."} and seen.data is before
    turn(seen, text="one two.")
    assert_up_to_date(seen)


def test_the_shown_layer_comes_first_and_the_others_are_unknown_until_then(seen, monkeypatch):
    original, entered, release = _measured.layer_influence, threading.Event(), threading.Event()

    def held(model, stack, *, layers, progress, **options):
        def waiting(steps, desc):
            for step in progress(steps, desc):
                if layers == [0]:
                    entered.set()
                    assert release.wait(20)
                yield step

        return original(model, stack, layers=layers, progress=waiting, **options)

    monkeypatch.setattr(_measured, "layer_influence", held)
    seen.settings = seen.settings | {"text": "A new one.", "second": "A new two."}
    assert entered.wait(20)
    values = decoded(seen.data["values"], shape(seen))
    sentence = encode(seen._measured.tokenizer, "A new one.")
    expected = original(seen._measured.model, sentence, layers=[1], progress=quiet).values[0]
    assert np.allclose(values[1], expected) and np.isnan(values[0]).all()
    other = decoded(seen.second["values"], shape(seen))
    assert np.isfinite(other[1]).all() and np.isnan(other[0]).all()
    assert list(seen.why["layers"]) == ["1"], "paths and heads of the shown layer come next"
    assert seen.status["state"] == "more" and "the other layers" in seen.status["text"]
    seen._handle_custom_msg({"wanted": "stop"}, [])
    release.set()
    assert seen.wait(20) and seen.status == {"state": "stopped", "text": "Stopped."}
    assert np.isnan(decoded(seen.data["values"], shape(seen))[0]).all()
    seen._handle_custom_msg({"wanted": "again"}, [])
    assert seen.wait(20)
    assert_up_to_date(seen)


def test_what_was_measured_is_not_measured_again(seen, slow):
    slow.release.set()
    for text in ("one", "two", "one", "two"):
        turn(seen, text=text)
    assert slow.texts == ["one", "one", "two", "two"], "each of two layers once"
    assert_up_to_date(seen)


def test_switches_ask_for_no_numbers(seen, slow):
    slow.release.set()
    asked = seen._worker.asked
    turn(seen, own=True, drawing="lines", log=False)
    assert seen._worker.asked == asked and not slow.texts


def test_what_is_kept_is_bounded(seen):
    assert seen._measured.known.cache_info().maxsize == KEPT


def test_no_thread_outlives_its_explorer(seen):
    turn(seen, text="A new one.")
    seen.close()
    seen._worker.thread.join(10)
    assert not seen._worker.thread.is_alive()
    seen.settings = seen.settings | {"text": "A late message."}


def test_running_the_cell_again_closes_its_explorer(model, minilm, monkeypatch):
    parent = {"metadata": {"cellId": "a"}, "header": {"msg_id": "1"}}

    class Shell:
        def get_parent(self):
            return parent

    monkeypatch.setattr(module, "get_ipython", Shell)
    one, two = (explorer(model, minilm[1], text="Hello.") for _ in range(2))
    assert not one._worker.closed and one._measured.known.cache_info().currsize, (
        "two in one cell live side by side"
    )
    parent = {"metadata": {"cellId": "b"}, "header": {"msg_id": "2"}}
    other = explorer(model, minilm[1], text="Hello.")
    parent = {"metadata": {"cellId": "a"}, "header": {"msg_id": "3"}}
    again = explorer(model, minilm[1], text="Hello.")
    assert (
        one._worker.closed
        and two._worker.closed
        and not one._measured.known.cache_info().currsize
        and not two._measured.known.cache_info().currsize
    )
    assert not other._worker.closed and not again._worker.closed
    assert [made for _, _, made in MADE if made in (one, two, other, again)] == [other, again]


def test_its_html_is_its_last_state(seen):
    turn(seen, text="Another one.", direction="receives")
    seen.selected = (0, 2, 1)
    assert seen.wait(20)
    data, _ = seen._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data and "<iframe" in data["text/html"]
    state = seen.view().state
    assert (
        state["live"] is False
        and tuple(state["selected"]) == (0, 2, 1)
        and state["data"] == seen.data
    )
    assert (
        set(state["why"]["layers"]) == {"0", "1"} and state["settings"]["direction"] == "receives"
    )
    json.loads(json.dumps(state))


def test_beside_a_widget_the_html_takes_what_is_known(model, minilm, monkeypatch):
    """A first picture waits for no other layer's paths and heads; a program's notebook has all."""

    class Shell:
        def get_parent(self):
            return {"metadata": {"cellId": "still"}, "header": {"msg_id": "1"}}

    seen = explorer(model, minilm[1], text="Hello world!")
    shown = seen._repr_mimebundle_()[0]["text/html"]
    assert state_of(shown)["why"] == json.loads(json.dumps(seen.view().state["why"]))
    monkeypatch.setattr(module, "get_ipython", Shell)
    state = state_of(seen._repr_mimebundle_()[0]["text/html"])
    assert state["data"] == json.loads(json.dumps(seen.data))
    assert state["why"] == json.loads(json.dumps(seen.why)) and list(state["why"]["layers"]) == [
        "1"
    ]


@pytest.mark.slow
def test_a_notebook_that_a_program_runs_keeps_the_still_view():
    """As papermill does, which saves the state of widgets: nbconvert would draw an empty place."""
    load = "from helpers import explorer, load_bert"
    cells = [load, "explorer(*load_bert(), text='Hello world.')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, store_widget_state=True, kernel_name="python3").execute()
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert page.count("<iframe") == 1 and f'<script type="{WIDGET}">' not in page


def test_an_explorer_is_saved_as_it_is_now(seen, tmp_path):
    turn(seen, text="Another one.")
    page = save_page(seen, tmp_path / "a.html").read_text("utf-8")
    state = json.loads(re.search(r'id="state">(.*?)</script>', page, re.S)[1])
    assert state["data"] == json.loads(json.dumps(seen.data)) and state["live"] is False
    assert set(state["why"]["layers"]) == {"0", "1"}


def test_saving_a_page_sends_it(seen, monkeypatch):
    sent = []
    monkeypatch.setattr(seen, "send", sent.append)
    seen._handle_custom_msg({"wanted": "page"}, [])
    assert sent == [{"page": seen.view().page}]


def test_hooks_of_other_cells_and_its_own_do_not_meet(seen, model):
    with (
        edit(model, {"encoder.layer.0": lambda h: h * 0}),
        record(model, "encoder.layer.*") as trace,
    ):
        model(**encode(seen._measured.tokenizer, "Something else.").inputs)
        turn(seen, text="Another one.")
    assert all(len(fired) == 1 for fired in trace.firings.values())
    assert_up_to_date(seen)
    copied = dict(seen._measured.model.named_parameters())
    assert all(copied[name] is parameter for name, parameter in model.named_parameters())


def test_nothing_is_left_behind(model, minilm):
    before = snapshot(model)
    seen = explorer(model, minilm[1], text="Hello world!")
    turn(seen, method="noise")
    turn(seen, text="")
    seen.close()
    assert snapshot(model) == before


def test_a_layer_without_a_closed_form_is_measured_by_noise_and_tells_no_paths(seen, monkeypatch):
    turn(seen, method="noise", samples=3)

    def refuse(*_):
        raise ValueError("no closed form")

    monkeypatch.setattr(
        type(layer_stack(seen._measured.model, encode(seen._measured.tokenizer, "a"))),
        "jacobian",
        refuse,
    )
    turn(seen, text="Another one.")
    assert seen.status == {"state": "ready"} and seen.why["layers"]["1"] == {
        "paths": {},
        "heads": None,
        "count": 0,
    }


def test_a_layer_is_differentiated_once_for_norms_paths_and_heads(model, minilm, monkeypatch):
    formed, original = [], LayerJacobian._form

    def counted(self, targets):
        formed.append(id(self))
        return original(self, targets)

    monkeypatch.setattr(LayerJacobian, "_form", counted)
    seen = explorer(model, minilm[1], text="Hello world!", layer=1)
    seen.selected = (0, 1, 2)
    assert seen.wait(20) and len(formed) == 2, "two layers, each once"
    seen.close()


def test_what_is_kept_of_a_large_model_is_the_layer_that_is_shown(model, minilm, monkeypatch):
    monkeypatch.setattr(_measured, "KEPT_BYTES", 0)
    stack = KeptStack.of(model, encode(minilm[1], "Hello world!"))
    first = [stack.jacobian(number) for number in (1, 0)]
    again = [stack.jacobian(number) for number in (1, 0)]
    assert first[0] is again[0] and first[1] is not again[1], "the first that was asked for"
