"""Whatever fails, and wherever it is interrupted, a model and the process are left as they were."""

import gc
import os
import sys
import threading

import pytest
import torch
from conftest import snapshot, tiny_bert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import helpers
from helpers import (
    LayerJacobian,
    downstream_influence,
    edit,
    layer_influence,
    layer_stack,
    noise_response,
    record,
    shape_table,
    upstream_influence,
)

IDS = {"input_ids": torch.tensor([[2, 7, 11]]), "attention_mask": torch.tensor([[1, 1, 1]])}
LAYERS = "encoder.layer.*"
HERE = os.path.dirname(helpers.__file__)
MODEL = tiny_bert()
MODEL(**IDS, output_hidden_states=True)  # transformers leaves hooks of its own: they must stay too


def recorded_and_edited(model):
    with (
        record(model, LAYERS),
        edit(model, {"embeddings": lambda h: h}),
        record(model, "embeddings"),
    ):
        model(**IDS)


def every_derivative(model):
    stack = layer_stack(model, IDS)
    J = LayerJacobian(stack.layers[1], stack.states[1], torch.tensor([1, 1, 0]))
    J.squared_norms(), J.paths(), J.block(0, 1), J.vjp(J.jvp(torch.ones(3, 8)))


CALLS = {
    "record and edit": recorded_and_edited,
    "shape_table": lambda model: shape_table(model, IDS),
    "noise_response": lambda model: noise_response(
        model, IDS, position=1, observe=LAYERS, samples=2
    ),
    "LayerJacobian": every_derivative,
    "layer exact": lambda model: layer_influence(model, IDS),
    "layer noise": lambda model: layer_influence(model, IDS, method="noise", samples=2),
    "layer jvp": lambda model: layer_influence(model, IDS, method="jvp", samples=2),
    "downstream exact": lambda model: downstream_influence(model, IDS, method="exact"),
    "downstream noise": lambda model: downstream_influence(model, IDS, method="noise", samples=2),
    "upstream vjp": lambda model: upstream_influence(model, IDS, samples=2),
}


class Interrupt:
    """Raises `error` at the line numbered `at` of those that run in `helpers`; counts the lines."""

    def __init__(self, at=None, error=KeyboardInterrupt):
        self.at, self.error, self.lines = at, error, 0

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def trace(self, frame, event, _argument):
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        if event == "line":
            self.lines += 1
            if self.lines - 1 == self.at:
                raise self.error("injected")
        return self.trace


@pytest.fixture(scope="module")
def lines():
    """How many lines of `helpers` each call runs."""
    counted = {}
    for name, call in CALLS.items():
        call(MODEL)
        with Interrupt() as interrupt:
            call(MODEL)
        counted[name] = interrupt.lines
    return counted


def interrupted(call, at, error):
    try:
        with Interrupt(at, error):
            call(MODEL)
    except error:
        return True
    return False


@given(
    st.sampled_from(sorted(CALLS)),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([KeyboardInterrupt, MemoryError]),
)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_interrupt_at_any_line_leaves_nothing_behind(lines, name, share, error):
    before = snapshot(MODEL)
    assert interrupted(CALLS[name], int(share * lines[name]), error)
    if snapshot(MODEL) != before:  # what a suspended generator holds is released with it
        gc.collect()
    assert snapshot(MODEL) == before


def fail(*_):
    raise RuntimeError("injected")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_failure_in_any_module_leaves_nothing_behind(name, register):
    failed = 0
    for module in MODEL.modules():
        with getattr(module, register)(fail):
            before = snapshot(MODEL)
            try:
                CALLS[name](MODEL)
            except RuntimeError as error:
                failed += str(error) == "injected"
            assert snapshot(MODEL) == before
    assert failed > 15  # the modules that this call does run


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_in_a_callback_leaves_nothing_behind(error):
    def refuse(*_, **__):
        raise error("injected")

    model = tiny_bert(vocab_size=30522)
    calls = [
        lambda: layer_influence(model, IDS, progress=refuse),
        lambda: downstream_influence(model, IDS, progress=refuse),
    ]
    for call in calls:
        before = snapshot(model)
        with pytest.raises(error, match="injected"):
            call()
        assert snapshot(model) == before
    with pytest.raises(error, match="injected"), edit(model, {"embeddings": refuse}):
        model(**IDS)
    assert snapshot(model) == before


@given(st.permutations(range(6)), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_overlapping_blocks_end_in_any_order(order, runs_after):
    """Six recorders and editors at once on one model, closed in any order, the model running in between."""
    model = MODEL
    before, clean = snapshot(model), model(**IDS).last_hidden_state
    traces, blocks = [], []
    for number in range(6):
        block = (
            record(model, LAYERS)
            if number % 2
            else edit(model, {"encoder.layer.0": lambda h: h + 0})
        )
        traces.append(block.__enter__())
        blocks.append(block)
    model(**IDS)
    for step, number in enumerate(order):
        blocks[number].__exit__(None, None, None)
        if step == runs_after:
            assert torch.equal(model(**IDS).last_hidden_state, clean)
    assert snapshot(model) == before
    states = [trace.firings["encoder.layer.1"][0] for trace in traces if trace is not None]
    assert all(torch.equal(state, states[0]) for state in states)


def test_the_same_model_recorded_twice_at_once():
    with record(MODEL, LAYERS) as outer:
        with record(MODEL, LAYERS) as inner:
            MODEL(**IDS)
    assert all(torch.equal(outer[site], inner[site]) for site in outer)


def test_two_threads_each_with_its_own_model():
    models = [tiny_bert(), tiny_bert(initializer_range=0.3)]
    alone = [layer_influence(model, IDS, method="noise", samples=5).values for model in models]
    found = [[], []]

    def work(number):
        for _ in range(20):
            found[number].append(
                layer_influence(models[number], IDS, method="noise", samples=5).values
            )

    threads = [threading.Thread(target=work, args=[number]) for number in range(2)]
    before = [snapshot(model) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [snapshot(model) for model in models] == before
    for number in range(2):
        assert len(found[number]) == 20 and all(
            torch.equal(values, alone[number]) for values in found[number]
        )
