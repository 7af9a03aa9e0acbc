"""`explorer`: the view under a text box; type a sentence, click a word, see where a push goes."""

import copy
import json
import queue
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import anywidget
import traitlets
from IPython.core.getipython import get_ipython
from IPython.display import display
from torch import Tensor, nn

from ..exact.influence import downstream_influence, layer_influence, upstream_influence
from ..exact.jacobian import LayerJacobian
from ..exact.layers import LayerStack, layer_stack
from ..sampling import TAKES
from ..words import encode
from ._view import HERE, SWITCHES, View, align, check_length, encoded, reason, view

NUMBERS = {  # what the numbers depend on
    "text": "Beijing is the capital of China, said the man.",
    "second": "",  # a second sentence to compare with
    "method": "exact",  # or "jvp", random directions, or "noise"
    "samples": 20,
    "sigma": 0.01,  # of the noise, in units of the hidden state
}
KEPT = 64  # results, of half a megabyte at most
KEPT_BYTES = 2**28  # of Jacobians, for the paths and heads of whatever layer is asked for next
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


def key_of(settings: dict[str, Any]) -> str:
    return json.dumps([settings[name] for name in NUMBERS])


@dataclass(frozen=True, repr=False)
class KeptStack(LayerStack):
    """Keeps its Jacobians, whose D_j serve norms, paths and heads: of `shown`, and what fits."""

    shown: int
    kept: dict[int, LayerJacobian] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, sentence, shown: int = 0) -> "KeptStack":
        return cls(**vars(layer_stack(model, sentence)), shown=shown)

    def jacobian(self, layer: int) -> LayerJacobian:  # type: ignore[override]
        if layer in self.kept:
            return self.kept[layer]
        seq, hidden = self.states[layer].shape
        formed = 2 * seq * hidden**2 * self.states[layer].element_size()  # D_j and D_j W_O
        found = super().jacobian(layer)
        if layer == self.shown or (len(self.kept) + 1) * formed <= KEPT_BYTES:
            self.kept[layer] = found
        return found


class Superseded(Exception):
    """There is newer input, or Stop was pressed, or the explorer was closed."""


class Explorer(anywidget.AnyWidget):
    """The widget. `.settings` and `.selected` (layer, target, source) are on screen, can be set.

    Messages from the browser come on several threads; one worker answers them, the newest alone. It
    measures a copy of the modules that shares the weights, so that its hooks and those of other
    cells do not meet.
    """

    _esm, _css = HERE / "view.js", HERE / "view.css"
    data, why, through, second, status, settings, initial = (
        traitlets.Dict().tag(sync=True) for _ in range(7)
    )
    selected = traitlets.Tuple().tag(sync=True)
    live = traitlets.Bool(True).tag(sync=True)

    def __init__(self, model: nn.Module, tokenizer, settings: dict[str, Any], **start: Any):
        super().__init__(settings=settings, selected=(start["layer"], 0, 0))
        weights = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._model: Any = copy.deepcopy(model, weights)
        self._tokenizer = tokenizer
        self._kept = lru_cache(KEPT)(self._measure)
        self._reason = lru_cache(KEPT)(self._find_reason)
        self._stack = lru_cache(1)(self._find_stack)
        self._measuring = threading.RLock()  # a page may be saved during a measurement
        self._wanted: queue.Queue = queue.Queue()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()
        self._asked = self._current = 0
        self._stop = self._closed = False
        self._show(start)
        self.initial = {"settings": self.settings, "selected": self.selected}
        self.observe(self._note, ["settings", "selected"])
        self.on_msg(self._message)

    def _repr_mimebundle_(self, **options):
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        still = f'<div class="bv-still">{STILL}{self.view()._repr_html_()}</div>'
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
        """What is on screen now, without a kernel."""
        names = ("data", "through", "second", "selected", "initial", "settings")
        state = {name: getattr(self, name) for name in names}
        state["why"] = self._why(range(len(self.data["layers"])))
        return View(state | {"live": False, "status": {"state": "ready"}})

    def wait(self, timeout: float | None = None) -> bool:
        """Whether everything that was asked for is on screen within `timeout` seconds."""
        answered = self._wanted.all_tasks_done
        with answered:
            return answered.wait_for(lambda: not self._wanted.unfinished_tasks, timeout)

    def close(self) -> None:
        self._closed = True
        self._model = None  # what a notebook's history still holds shall be small
        self._wanted.put(None)
        self._kept.cache_clear()
        self._reason.cache_clear()
        self._stack.cache_clear()
        super().close()

    def _message(self, _widget, content: dict, _buffers) -> None:
        if content["wanted"] == "stop":
            self._stop = True
        elif content["wanted"] == "again":
            self._ask()
        else:
            self.send({"page": self.view().page})

    def _note(self, change) -> None:
        asks = (*NUMBERS, "direction")
        if change.name == "selected" or any(change.old[n] != change.new[n] for n in asks):
            self._ask()

    def _ask(self) -> None:
        self._asked += 1
        if not self._closed:
            self._wanted.put(self._asked)

    def _work(self) -> None:
        for number in iter(self._wanted.get, None):
            if number == self._asked and not self._closed:
                self._answer(number)
            self._wanted.task_done()

    def _answer(self, number: int) -> None:
        self._current, self._stop = number, False
        try:
            with self._measuring:
                self._show()
        except Superseded:
            if self._stop:
                state = "ready" if self.data["of"] == key_of(self.settings) else "stopped"
                self.status = {"state": state, "text": "Stopped."}
        except ValueError as error:
            self.status = {"state": "error", "text": str(error)}
        except Exception as error:  # not the input's fault: say all that is known
            trace = "".join(traceback.format_exception(error))
            self.status = {"state": "error", "text": type(error).__name__, "trace": trace}

    def _show(self, start: dict[str, Any] | None = None) -> None:
        settings = self.settings
        self._key = key_of(settings)
        if self.data.get("of") != self._key:
            self._show_numbers(settings, start)
        layer, *pair = self.selected  # a click may come from the sentence before
        depth, seq = len(self.data["layers"]), len(self.data["tokens"])
        layer = layer if layer in (*range(depth), "all") else 0
        pair = [min(max(i, 0), seq - 1) for i in pair]
        self.selected = (layer, *pair)
        if layer == "all":
            self._show_through(settings, *pair)
        else:
            self.why = self._why([layer])
        self.status = {"state": "ready"}

    def _show_numbers(self, settings: dict[str, Any], start: dict[str, Any] | None) -> None:
        texts = [settings["text"], *filter(str.strip, [settings["second"]])]
        options = self._options(settings, settings["method"])
        if options.get("samples", 2) < 2:
            raise ValueError("Take at least 2 samples: one tells nothing about its error.")
        first, *second = [
            self._kept(layer_influence, text, "layer by layer", **options) for text in texts
        ]
        if start is None:  # what is selected follows its words into the new sentence
            old, moved = self.data["tokens"], align(self.data["tokens"], first.tokens)
            kept = {i: to for i, to in moved.items() if old[i] == first.tokens[to]}
            target, source = (kept.get(i) for i in self.selected[1:])
            start = {
                "layer": self.selected[0],
                "target": None if source is None else target,
                "source": source,
            }
        through = start["layer"] == "all"
        start["layer"] = 0 if through else min(start["layer"], len(first.sites) - 1)
        start |= {name: settings[name] for name in SWITCHES}
        state = view(
            first, second=second[0] if second else None, title=settings["text"], **start
        ).state
        layer = "all" if through else start["layer"]
        with self.hold_sync():  # or the browser shows an old choice in a new sentence
            self.data = state["data"] | {"of": self._key, "call": "explorer(model, tokenizer"}
            self.second = state["second"] | {"of": self._key}
            self.selected = (layer, *state["selected"][1:])

    def _show_through(self, settings: dict[str, Any], target: int, source: int) -> None:
        """From the embeddings to the last layer: sampled, then exactly for the selected word."""
        text, told = settings["text"], "the way through all layers"
        exact = settings["method"] == "exact"
        options = self._options(settings, "jvp" if exact else settings["method"])
        if exact:
            options["samples"] = min(options["samples"], self._model.config.hidden_size)
        found = self._kept(downstream_influence, text, told, **options)
        values, stderr = found.values[-1].clone(), found.stderr[-1].clone()
        self._show_whole(values, stderr)
        if not exact:
            return
        told += ", exactly"
        if settings["direction"] == "sends":
            found = self._kept(downstream_influence, text, told, method="exact", sources=(source,))
            values[:, source], stderr[:, source] = found.values[-1, :, 0], 0
        else:
            found = self._kept(upstream_influence, text, told, method="exact", targets=(target,))
            values[target], stderr[target] = found.values[0, 0], 0
        self._show_whole(values, stderr)

    def _show_whole(self, values: Tensor, stderr: Tensor) -> None:
        self.through = {"of": self._key, "values": encoded(values), "stderr": encoded(stderr)}

    def _why(self, layers: Iterable[int]) -> dict[str, Any]:
        text = json.loads(self.data["of"])[0]
        return {"of": self.data["of"], "layers": {str(n): self._reason(text, n) for n in layers}}

    def _find_reason(self, text: str, layer: int) -> dict[str, Any]:
        try:
            with self._measuring:
                jacobian = self._stack(text).jacobian(layer)
                return reason(jacobian.paths(), jacobian.heads())
        except ValueError:  # a layer without a closed form: noise measures it, but knows no paths
            return reason(None, None)

    def _find_stack(self, text: str) -> KeptStack:
        return KeptStack.of(self._model, self._sentence(text), self.selected[0])

    def _sentence(self, text: str):
        if not self._tokenizer.tokenize(text):
            raise ValueError("Type at least one word.")
        sentence = encode(self._tokenizer, text)
        check_length(sentence.tokens)
        return sentence

    def _options(self, settings: dict[str, Any], method: str) -> dict[str, Any]:
        takes = [name for name in ("samples", "sigma") if name in TAKES.get(method, ())]
        return {"method": method} | {name: settings[name] for name in takes}

    def _measure(self, experiment: Callable, text: str, told: str, **options) -> Any:
        """One experiment; it says how far it is, and gives way to newer input."""
        shown = self.data.get("of") == self._key  # is what is on screen still true?

        def progress(steps, desc):
            for number, step in enumerate(steps):
                newer = key_of(self.settings) != self._key or (
                    shown and self._current != self._asked
                )
                if newer or self._stop or self._closed:
                    raise Superseded
                told_now = {"text": f"Computing {told} …", "done": number / len(steps)}
                self.status = {"state": "more" if shown else "busy"} | told_now
                yield step

        inputs: Any = self._sentence(text)
        first = text == self.settings["text"]
        if first and experiment is layer_influence and options["method"] == "exact":
            inputs = self._stack(text)
        return experiment(self._model, inputs, progress=progress, **options)


def explorer(
    model: nn.Module, tokenizer, *, layer: int = 1, target=None, source=None, **settings: Any
) -> Explorer:
    """The view under a text box: a widget over the experiments, live while a kernel runs.

    `settings` are the first values of `NUMBERS` and of the view's `SWITCHES`; `layer`, `target` and
    `source` are selected at first. `.settings` and `.selected` follow what the reader does, and can
    be set; `.wait()` returns when all is on screen; `.view()` is it without a kernel. An explorer
    is closed when its cell runs again.

    Raises `ValueError` for a sentence that cannot be shown and for unknown settings; what a reader
    types later is answered under the box.

    >>> from helpers import load_bert
    >>> explorer(*load_bert(), text="Hello world!").selected[0]
    1
    """
    known = NUMBERS | {name: choices[0] for name, choices in SWITCHES.items()}
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"expected settings from {sorted(known)}, got {unknown}")
    made = Explorer(model, tokenizer, known | settings, layer=layer, target=target, source=source)
    cell, run = asked_by()
    for old in [old for old in MADE if cell and old[0] == cell and old[1] != run]:
        old[2].close()
        MADE.remove(old)
    MADE.append((cell, run, made))
    return made
