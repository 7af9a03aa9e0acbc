"""The explorer's callbacks, without a browser: what the controls say is what is shown, on whatever thread."""

import base64
import re
import threading

import pytest
from conftest import snapshot, tiny_bert

import helpers.widgets
from helpers import Measurements, edit, encode, explore, explorer, record
from helpers.views import DOWNSTREAM
from helpers.widgets import png


@pytest.fixture
def model():
    return tiny_bert(vocab_size=30522, max_position_embeddings=128)


@pytest.fixture
def view(model, minilm):
    return explorer(model, minilm[1], text="Hello world!")


def turn(view, **values):
    for name, value in values.items():
        setattr(view.controls[name], "index" if name == "position" else "value", value)
    assert view.wait(20)


def drawn(view, part):
    return base64.b64decode(re.search(r'base64,([^"]+)"', view.pictures[part].value)[1])


def assert_up_to_date(view):
    for shown in explore(Measurements(view._measurements.model, view._measurements.tokenizer), view.settings):
        assert drawn(view, shown.part) == png(shown), shown.part


@pytest.mark.parametrize(
    "change",
    [
        {"text": "A new one."},
        {"position": 3},
        {"layer": 0},
        {"observe": DOWNSTREAM},
        {"method": "noise", "sigma": 0.1, "samples": 5},
        {"method": "jvp", "samples": 3},
        {"own": True},
        {"log": False},
        {"second": "Hello moon!"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_control_changes_the_pictures(view, change):
    before = view.pictures["map"].value + view.pictures["trace"].value + view.pictures["pair"].value
    turn(view, **change)
    assert view.pictures["map"].value + view.pictures["trace"].value + view.pictures["pair"].value != before
    assert_up_to_date(view)


def test_noise_options_are_there_when_the_method_has_them(view):
    for method, visible in (("exact", ()), ("jvp", ("samples",)), ("noise", ("sigma", "samples"))):
        turn(view, method=method)
        assert tuple(n for n in ("sigma", "samples") if view.controls[n].layout.display != "none") == visible


def test_errors_are_shown_and_go_with_the_next_good_input(view):
    for text, told in (("", "expected a sentence"), ("word " * 70, "at most 64 tokens")):
        turn(view, text=text)
        assert 'role="alert"' in view.status.value and told in view.status.value
        assert {p.layout.display for p in (*view.pictures.values(), view.controls["position"])} == {"none"}
    turn(view, text="Good again!")
    assert "alert" not in view.status.value and view.pictures["map"].layout.display is None
    assert_up_to_date(view)


def test_a_failure_inside_is_shown_with_its_traceback_as_text(view, monkeypatch):
    def fail(*args):
        raise RuntimeError("<b>boom</b>")

    monkeypatch.setattr(helpers.widgets, "explore", fail)
    turn(view, layer=0)
    assert "RuntimeError: &lt;b&gt;boom" in view.status.value and "Traceback" in view.status.value


def test_typed_markup_is_escaped(view):
    turn(view, text="<script>x</script> & \"'", second="<b>", position=1)
    for part in (view.status, *view.pictures.values()):
        assert not re.search(r"<(script|b)>", part.value)
    assert view.controls["position"].options[1] == ("<", 1)


class Slow:
    """Holds the first call of `explore` until released, and counts how many run at once."""

    def __init__(self):
        self.entered, self.release, self.running, self.most = threading.Event(), threading.Event(), 0, 0

    def __call__(self, measurements, settings):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if not self.entered.is_set():
                self.entered.set()
                assert self.release.wait(10)
            yield from explore(measurements, settings)
        finally:
            self.running -= 1


def overlap(view, monkeypatch):
    slow = Slow()
    monkeypatch.setattr(helpers.widgets, "explore", slow)
    threads = [
        threading.Thread(target=lambda: setattr(view.controls["own"], "value", True)),
        threading.Thread(target=lambda: setattr(view.controls["layer"], "value", 0)),
    ]
    threads[0].start()
    assert slow.entered.wait(10)
    threads[1].start()
    view.wait(0.5)  # without the lock the second is through by now
    slow.release.set()
    for thread in threads:
        thread.join(10)
    assert view.wait(20)
    return slow.most


def test_two_threads_take_turns_and_the_newest_input_is_shown(view, monkeypatch):
    assert overlap(view, monkeypatch) == 1
    assert_up_to_date(view)


def test_without_the_queue_they_would_not(view, monkeypatch):
    """What ipykernel 7 does with a callback that draws: two at once, and the older one may end last."""
    for name, control in view.controls.items():
        control.unobserve_all()
        control.observe(lambda _: view._show(view.settings), "index" if name == "position" else "value")
    assert overlap(view, monkeypatch) > 1


def test_a_new_input_interrupts_a_slow_one(view, monkeypatch):
    slow = Slow()
    monkeypatch.setattr(helpers.widgets, "explore", slow)
    view.controls["method"].value = "noise"
    assert slow.entered.wait(10)
    view.controls["layer"].value = 0
    shown = []
    monkeypatch.setattr(helpers.widgets, "png", lambda s: shown.append(s.options["title"]) or png(s))
    slow.release.set()
    assert view.wait(20)
    assert shown and not any("layer 1 alone" in title for title in shown[:2])


def test_hooks_of_other_cells_and_its_own_do_not_meet(view, model):
    with edit(model, {"encoder.layer.0": lambda h: h * 0}), record(model, "encoder.layer.*") as trace:
        model(**encode(view._measurements.tokenizer, "Something else.").inputs)
        turn(view, text="Another one.")
    assert all(len(fired) == 1 for fired in trace.firings.values())
    assert_up_to_date(view)
    copied = dict(view._measurements.model.named_parameters())
    assert all(copied[name] is parameter for name, parameter in model.named_parameters())


def test_only_so_many_pictures_are_kept(view, monkeypatch):
    monkeypatch.setattr(helpers.widgets, "KEPT", 5)
    for text in ("One.", "Two.", "Three.", "Four."):
        turn(view, text=text)
        assert len(view._drawn) <= 5


def test_of_many_inputs_in_line_only_the_newest_is_drawn(view, monkeypatch):
    slow, drawn = Slow(), []
    monkeypatch.setattr(helpers.widgets, "explore", slow)
    view.controls["own"].value = True
    assert slow.entered.wait(10)
    monkeypatch.setattr(helpers.widgets, "explore", lambda *a: drawn.append(a[1].text) or explore(*a))
    for text in ("One.", "Two.", "Three.", "Four."):
        view.controls["text"].value = text
    slow.release.set()
    assert view.wait(20)
    assert "Four." in drawn and not {"One.", "Two.", "Three."} & set(drawn)


def test_nothing_is_left_behind(model, minilm):
    before = snapshot(model)
    view = explorer(model, minilm[1], text="Hello world!")
    turn(view, method="noise", observe=DOWNSTREAM)
    turn(view, text="")
    view.close()
    view._worker.join(10)
    assert snapshot(model) == before and not view._worker.is_alive()
