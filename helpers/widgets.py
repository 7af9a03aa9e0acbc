"""`explorer`: type a sentence, click a token, see where a disturbance of it goes."""

import base64
import copy
import html
import io
import json
import queue
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace

import ipywidgets as ipw
from torch import nn

from .influence import OPTIONS
from .views import DOWNSTREAM, KEPT, SAMPLING, SINGLE, Measurements, Settings, Shown, explore

STYLE = """<style>
.ex-picture img {max-width: 100%; height: auto; background: white}
.ex-busy {opacity: .45}
.explorer .widget-inline-hbox {margin-right: 1em}
.ex-position {max-height: 12em; overflow: auto}
.ex-position button {width: auto; min-width: 2em; padding: 0 .5em}
.ex-error {border-left: 4px solid var(--jp-error-color1, #d32f2f); padding: .3em .8em; white-space: pre-wrap}
.ex-status, .ex-status .widget-html-content {color: var(--jp-ui-font-color1); height: auto; white-space: normal}
</style>"""


def png(shown: Shown) -> bytes:
    """The picture's bytes; its title stands in its Description."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a script that matplotlib's font lacks
        description = json.dumps([shown.part, shown.options["title"]])
        shown.figure.savefig(buffer, dpi=100, metadata={"Software": None, "Description": description})
    return buffer.getvalue()


class Superseded(Exception):
    """Another input has arrived while this one was worked on."""


class Explorer(ipw.VBox):
    """The view. Callbacks run on several threads, so each only puts a note into a queue; one worker takes the notes,
    reads the controls when it is their turn, and drops what it does as soon as there is a newer note.

    The worker measures a copy of the model's modules that shares the weights: hooks of other cells, which may run at
    the same time, do not meet its own."""

    def __init__(self, model: nn.Module, tokenizer, first: Settings):
        weights = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._measurements = Measurements(copy.deepcopy(model, weights), tokenizer, self._progress)
        self._drawn: dict[tuple, bytes] = {}
        self._notes: queue.Queue[bool] = queue.Queue()
        self._worker = threading.Thread(target=self._work, daemon=True)
        last, wide = self._measurements.depth - 1, {"layout": {"width": "98%"}}
        self.controls = {
            "text": ipw.Text(first.text, description="Sentence", **wide),
            "position": ipw.ToggleButtons(**wide),
            "layer": ipw.IntSlider(min(first.layer, last), 0, last, description="Layer", layout={"width": "18em"}),
            "observe": ipw.Dropdown(options=[SINGLE, DOWNSTREAM], value=first.observe, description="Observe"),
            "method": ipw.Dropdown(options=["exact", "jvp", "noise"], value=first.method, description="Method"),
            "sigma": ipw.BoundedFloatText(first.sigma, min=1e-5, max=100, step=0.01, description="σ"),
            "samples": ipw.BoundedIntText(first.samples, min=2, max=1000, description="Samples"),
            "own": ipw.Checkbox(first.own, description="own position", indent=False),
            "log": ipw.Checkbox(first.log, description="logarithmic colour", indent=False),
            "second": ipw.Text(first.second, description="Second sentence", placeholder="to compare with", **wide),
        }
        self.pictures = {part: ipw.HTML() for part in ("map", "trace", "pair")}
        self.status = ipw.HTML()
        self.status.add_class("ex-status")
        for name, control in self.controls.items():
            control.add_class(f"ex-{name}")
            control.tooltip = control.description or "the token to disturb"
            control.style.description_width = "initial"
            control.layout.width = control.layout.width or "auto"
        for part, picture in self.pictures.items():
            picture.add_class("ex-picture").add_class(f"ex-{part}-picture")
        text, position, *choices, second = self.controls.values()
        rows = [ipw.HBox(row, layout={"flex_flow": "row wrap"}) for row in (choices, tuple(self.pictures.values()))]
        super().__init__([ipw.HTML(STYLE), text, position, rows[0], second, self.status, rows[1]])
        self.add_class("explorer")
        self._set_tokens(first)
        for name, control in self.controls.items():
            control.observe(self._changed, "index" if name == "position" else "value")
        self._changed()
        self._worker.start()
        self.wait()

    def __repr__(self) -> str:
        return "Explorer (run this cell in JupyterLab to use it)"

    def _repr_mimebundle_(self, **kwargs):
        return super()._repr_mimebundle_(**kwargs) | {"text/plain": repr(self)}

    @property
    def settings(self) -> Settings:
        values = {name: control.value for name, control in self.controls.items() if name != "position"}
        return Settings(**values, position=self.controls["position"].index or 0)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether what the controls say was shown within `timeout` seconds."""
        with self._notes.all_tasks_done:
            return self._notes.all_tasks_done.wait_for(lambda: not self._notes.unfinished_tasks, timeout)

    def close(self) -> None:
        self._notes.put(False)  # the worker ends
        super().close()

    def _changed(self, _change=None) -> None:
        self._notes.put(True)

    def _work(self) -> None:
        while self._notes.get():
            settings = self.settings
            try:
                self._show(settings)
            except Superseded:
                continue
            except Exception as error:
                self._show_error(error)
                continue
            finally:
                self._notes.task_done()
            with suppress(Exception):  # another input is there, or will be told when this layer is asked for
                self._draw_ahead(settings)

    def _draw_ahead(self, settings: Settings) -> None:
        """The maps of the other layers, which are measured by now, so that the slider moves at once."""
        for layer in range(self._measurements.depth):
            self._give_way()
            self._png(next(explore(self._measurements, replace(settings, layer=layer, second=""))))

    def _give_way(self) -> None:
        if not self._notes.empty():
            raise Superseded

    def _progress(self, steps: Sequence, desc: str) -> Iterator:
        for number, step in enumerate(steps):
            self._give_way()
            self.status.value = f'<span role="status">computing {desc}: {number / len(steps):.0%}</span>'
            yield step

    def _png(self, shown: Shown) -> bytes:
        key = (shown.values.tobytes(), *shown.rows, *shown.columns, *shown.options.items())
        if key not in self._drawn:
            if len(self._drawn) >= KEPT:
                self._drawn.clear()
            self._drawn[key] = png(shown)
        return self._drawn[key]

    def _show(self, settings: Settings) -> None:
        for name in SAMPLING:
            self.controls[name].layout.display = None if name in OPTIONS[settings.method] else "none"
        self._set_tokens(settings)  # which is a change, too, when the sentence is new
        for picture in self.pictures.values():
            picture.add_class("ex-busy")
        words = []
        for shown in explore(self._measurements, settings):
            data = base64.b64encode(self._png(shown)).decode()
            self._give_way()
            picture = self.pictures[shown.part]
            picture.value = f'<img alt="{html.escape(shown.words)}" src="data:image/png;base64,{data}">'
            picture.layout.display = None
            picture.remove_class("ex-busy")
            if shown.part != "map":
                words.append(html.escape(shown.words))
        if not settings.second:
            self.pictures["pair"].layout.display = "none"
        state = html.escape(json.dumps(asdict(settings)))
        self.status.value = f'<span role="status" class="ex-done" data-state="{state}">{"<br>".join(words)}</span>'

    def _set_tokens(self, settings: Settings) -> None:
        tokens, buttons = self._measurements.sentence(settings.text).tokens, self.controls["position"]
        if [label for label, _ in buttons.options] != tokens:
            buttons.options = [(token, number) for number, token in enumerate(tokens)]
        buttons.index = min(settings.position, len(tokens) - 1)
        buttons.layout.display = None

    def _show_error(self, error: Exception) -> None:
        for part in (self.controls["position"], *self.pictures.values()):
            part.layout.display = "none"
        told = str(error)
        if not isinstance(error, ValueError):  # not the input's fault: say all that is known
            told = "".join(traceback.format_exception(error))
        self.status.value = f'<div role="alert" class="ex-error">{html.escape(told)}</div>'


def explorer(model: nn.Module, tokenizer, **settings) -> Explorer:
    """A widget over the two experiments: every control of `Settings`, the pictures of `explore`, one line in words.

    `settings` are the first values of the controls. `.settings` is what the controls say now, `.wait()` returns when
    what they say is on screen. An error in the input is shown in place of the pictures; the next good input brings
    them back.

    >>> from helpers import load_bert
    >>> explorer(*load_bert(), text="Hello world!").settings.text
    'Hello world!'
    """
    return Explorer(model, tokenizer, Settings(**settings))
