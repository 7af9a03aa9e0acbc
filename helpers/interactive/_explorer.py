"""`explorer`: the view under a text box; type a sentence, click a word, see where a push goes."""

import json
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import anywidget
import traitlets
from IPython.core.getipython import get_ipython
from IPython.display import display
from torch import nn

from ..exact.influence import downstream_influence, upstream_influence
from ..sampling import TAKES
from ..values import whole
from ._measured import Measurements
from ._numbers import Numbers, align
from ._view import HERE, SWITCHES, View, settings_of, view
from ._worker import Superseded, Worker

NUMBERS = {  # what the numbers depend on
    "text": "Beijing is the capital of China, said the man.",
    "second": "",  # a second sentence to compare with
    "method": "exact",  # or "jvp", random directions, or "noise"
    "samples": 20,
    "sigma": 0.01,  # of the noise, in units of the hidden state
}
WIDGET = "application/vnd.jupyter.widget-view+json"
# JupyterLab: the widget takes the place of the still view, and that of a widget that is gone
STILL = """<style>
.jp-OutputArea-child:has(.bv-still):has(+ .jp-OutputArea-child .bv),
.jp-OutputArea-child:has(.bv-still) + .jp-OutputArea-child:has(.jupyter-widgets):not(:has(.bv))
{ display: none }
</style>"""
MADE: list[tuple[str, str, "Explorer"]] = []  # the cell and the run that made each explorer


def asked_by() -> tuple[str, str]:
    """The cell that runs and its run; a program that executes a notebook names no cell."""
    parent: dict[str, Any] = getattr(get_ipython(), "get_parent", dict)()
    cell = parent.get("metadata", {}).get("cellId", "")
    return cell, parent.get("header", {}).get("msg_id", "")


def within(place: Any, count: int) -> int:
    """A click may come from the sentence before."""
    return min(max(int(place), 0), count - 1)


def key_of(settings: dict[str, Any]) -> str:
    return json.dumps([settings[name] for name in NUMBERS])


class Explorer(anywidget.AnyWidget):
    """The widget. `.settings` and `.selected` (layer, target, source) are on screen, can be set."""

    _esm, _css = HERE / "view.js", HERE / "view.css"
    data, why, through, second, status, settings, initial = (
        traitlets.Dict().tag(sync=True) for _ in range(7)
    )
    selected = traitlets.Tuple().tag(sync=True)
    live = traitlets.Bool(True).tag(sync=True)

    def __init__(self, model: nn.Module, tokenizer, settings: dict[str, Any], layer, **words: Any):
        super().__init__(settings=settings)
        self._measured = Measurements(model, tokenizer, self._progress)
        self._worker = Worker(self._answer)
        last = len(self._measured.stack(settings["text"]).layers) - 1
        if layer is None:
            layer = min(1, last)
        elif layer != "all":
            layer = whole(layer, "a layer", 0, last)
        self.selected = (layer, 0, 0)
        self._words = words  # that are chosen at first
        self._show()
        self.initial = {"settings": self.settings, "selected": self.selected}
        self._worker.thread.start()
        self.observe(self._note, ["settings", "selected"])
        self.on_msg(self._message)

    @traitlets.validate("settings")
    def _valid(self, proposal) -> dict[str, Any]:
        settings_of({name: proposal.value[name] for name in SWITCHES})
        return proposal.value

    def _repr_mimebundle_(self, **options):
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        # beside a widget, what is known: who waits for the picture does not wait for other layers
        shown = self._still(self.why) if asked_by()[0] else self.view()
        still = f'<div class="bv-still">{STILL}{shown._repr_html_()}</div>'
        told = {"text/html": still, "text/plain": "Explorer (run to use it)"}
        return {**(data or {}), **told}, metadata

    def _ipython_display_(self) -> None:
        """Two outputs, so that a saved notebook shows the first where the widget is gone."""
        data, _ = self._repr_mimebundle_()
        widget = {WIDGET: data.pop(WIDGET)}
        display(data, raw=True)
        if asked_by()[0]:
            display(widget, raw=True)

    def view(self) -> View:
        """What is on screen now, without a kernel, with the paths and heads of all layers."""
        with self._measured.lock:
            return self._still(self._why(range(len(self.data["layers"]))))

    def _still(self, why: dict[str, Any]) -> View:
        names = ["data", "through", "second", "selected", "initial", "settings"]
        told = {"why": why, "live": False, "status": {"state": "ready"}}
        with self._measured.lock:
            return View(self.get_state(names) | told)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether everything that was asked for is on screen within `timeout` seconds."""
        return self._worker.wait(timeout)

    def close(self) -> None:
        self._worker.close()
        self._measured.clear()
        super().close()

    def _message(self, _widget, content: dict, _buffers) -> None:
        if content["wanted"] == "stop":
            self._worker.stopped = True
        elif content["wanted"] == "again":
            self._worker.ask()
        else:
            self.send({"page": self.view().page})

    def _note(self, change) -> None:
        asks = (*NUMBERS, "direction")
        if threading.current_thread() is self._worker.thread:
            return  # it shows what it was asked for
        if change.name == "selected" or any(change.old[n] != change.new[n] for n in asks):
            self._worker.ask()

    def _answer(self) -> None:
        try:
            with self._measured.lock:
                self._show()
        except Superseded:
            if self._worker.stopped:
                self.status = {"state": "stopped", "text": "Stopped."}
        except ValueError as error:
            self.status = {"state": "error", "text": str(error)}
        except Exception as error:  # not the input's fault: say all that is known
            trace = "".join(traceback.format_exception(error))
            self.status = {"state": "error", "text": type(error).__name__, "trace": trace}

    def _show(self) -> None:
        """The shown layer first, why it is so next, then the other layers."""
        self._settings = self.settings
        self._key = key_of(self._settings)
        depth = len(self._measured.stack(self._settings["text"]).layers)
        layer = self.selected[0]
        if layer != "all":
            layer = within(layer, depth)
        if self._is_stale() or not self._complete:
            self._show_numbers([0 if layer == "all" else layer], "layer by layer")
        seq = len(self.data["tokens"])
        target, source = (within(place, seq) for place in self.selected[1:])
        self.selected = (layer, target, source)
        if layer == "all":
            self._show_through(target, source)
        else:
            self.why = self._why([layer])
        if not self._complete:
            told = "the other layers; until they are known, the scale is that of what is shown"
            self._show_numbers(range(depth), told)
        self.status = {"state": "ready"}

    def _is_stale(self) -> bool:
        return self.data.get("of") != self._key

    def _show_numbers(self, layers: Sequence[int], told: str) -> None:
        settings = self._settings
        texts = [settings["text"], *filter(str.strip, [settings["second"]])]
        options = self._options(settings["method"])
        found = [self._measured.layers(text, layers, told, **options) for text in texts]
        self._give_way()
        start = {name: settings[name] for name in SWITCHES} | {"title": settings["text"]}
        if self._is_stale():
            start |= self._chosen_in(found[0].tokens)
        second = found[1] if len(found) > 1 else None
        state = view(found[0], second=second, layer=layers[0], **start).state
        with self.hold_sync():  # or the browser shows an old choice in a new sentence
            if self._is_stale():
                self.selected = (self.selected[0], *state["selected"][1:])
            self.data = state["data"] | {"of": self._key, "call": "explorer(model, tokenizer"}
            self.second = state["second"] | {"of": self._key}
        self._complete = all(bool(one.values.isfinite().all()) for one in found)

    def _chosen_in(self, tokens: list[str]) -> dict[str, Any]:
        """What is selected follows its words into the new sentence."""
        if not self.data:
            return self._words
        old = self.data["tokens"]
        moved = {i: to for i, to in align(old, tokens).items() if old[i] == tokens[to]}
        target, source = (moved.get(i) for i in self.selected[1:])
        return {"target": None if source is None else target, "source": source}

    def _show_through(self, target: int, source: int) -> None:
        """From the embeddings to the last layer: sampled, then exactly for the selected word."""
        settings, measure = self._settings, self._measured.whole
        text, told = settings["text"], "the way through all layers"
        exact = settings["method"] == "exact"
        options = self._options("jvp" if exact else settings["method"])
        if exact:
            hidden = self._measured.model.config.hidden_size
            options["samples"] = min(options["samples"], hidden)
        shown = Numbers.of(measure(downstream_influence, text, told, **options))
        self.through = shown.end() | {"of": self._key}
        if not exact:
            return
        told += ", exactly"
        line: tuple
        if settings["direction"] == "sends":
            found = measure(downstream_influence, text, told, method="exact", sources=(source,))
            line, values = (-1, slice(None), source), found.values[-1, :, 0]
        else:
            found = measure(upstream_influence, text, told, method="exact", targets=(target,))
            line, values = (-1, target), found.values[0, 0]
        assert shown.stderr is not None
        shown.values[line] = values
        shown.stderr[line] = 0
        self.through = shown.end() | {"of": self._key}

    def _why(self, layers: Iterable[int]) -> dict[str, Any]:
        text = self.data["title"]
        found = {str(layer): self._measured.reason(text, layer) for layer in layers}
        return {"of": self.data["of"], "layers": found}

    def _options(self, method: str) -> dict[str, Any]:
        takes = TAKES.get(method, ())
        options = {n: self._settings[n] for n in ("samples", "sigma") if n in takes}
        if "samples" in options:
            hint = "; one tells nothing about its error"
            whole(options["samples"], "a number of samples", 2, hint=hint)
        return {"method": method} | options

    def _progress(self, told: str, part: int, parts: int, steps, desc: str) -> Iterator:
        """Says how far a measurement is, and gives way to newer input."""
        for number, step in enumerate(steps):
            self._give_way()
            state = "busy" if self._is_stale() else "more"
            done = (part + number / len(steps)) / parts
            self.status = {"state": state, "text": f"Computing {told} …", "done": done}
            yield step

    def _give_way(self) -> None:
        worker = self._worker
        newer = key_of(self.settings) != self._key or (
            not self._is_stale() and worker.current != worker.asked
        )
        if newer or worker.stopped or worker.closed:
            raise Superseded


def explorer(
    model: nn.Module, tokenizer, *, layer=None, target=None, source=None, **settings: Any
) -> Explorer:
    """The view under a text box: a widget over the experiments, live while a kernel runs.

    `settings` are the first values of `NUMBERS` and of the view's `SWITCHES`; `layer` (default: 1,
    the second; or "all"), `target` and `source` are selected at first. `.settings` and `.selected`
    follow what the reader does, and can be set; `.wait()` returns when all is on screen; `.view()`
    is it without a kernel. An explorer is closed when its cell runs again.

    Raises `ValueError` for a sentence that cannot be shown, for unknown settings and for a layer or
    a position that is not there; what a reader types later is answered under the box.

    >>> from helpers import load_bert
    >>> explorer(*load_bert(), text="Hello world!").selected[0]
    1
    """
    known = NUMBERS | settings_of({})
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"expected settings from {sorted(known)}, got {unknown}")
    made = Explorer(model, tokenizer, known | settings, layer=layer, target=target, source=source)
    cell, run = asked_by()
    for old in [old for old in MADE if cell and old[0] == cell and old[1] != run]:
        old[2].close()
        MADE.remove(old)
    MADE.append((cell, run, made))
    return made
