from collections import namedtuple

import pytest
import torch
from conftest import snapshot, tiny_bert
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from helpers import SiteError, edit, record
from helpers.hooks import hidden_state, replace_hidden_state, resolve

Pair = namedtuple("Pair", "first second")
H, NEW = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
CONTAINERS = [
    H,
    (H, None),
    (None, H),
    [H],
    Pair(None, H),
    {"a": None, "b": H},
    BaseModelOutput(last_hidden_state=H),
    (None, {"deep": [Pair(H, 1)]}),
]


class Returns(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.inner = nn.Module()
        self.inner.forward = lambda: output

    def forward(self):
        return self.inner()


def test_recorded_states_are_the_librarys_own(minilm, sentence):
    model, _ = minilm
    with record(model, ["embeddings", "encoder.layer.*"]) as trace:
        output = model(**sentence.inputs, output_hidden_states=True)
    assert list(trace) == ["embeddings", *(f"encoder.layer.{i}" for i in range(6))]
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(trace.values(), output.hidden_states, strict=True)
    )


def test_a_glob_star_stays_within_one_name_part(tiny, ids):
    with record(tiny, "encoder.layer.*.attention.self.*") as trace:
        tiny(**ids)
    parts = {site.split(".", 3)[3] for site in trace}
    parts.discard("attention.self.dropout")  # fires with transformers 4's attention only
    assert parts == {f"attention.self.{name}" for name in ("query", "key", "value")}


@pytest.mark.parametrize("output", CONTAINERS, ids=lambda o: type(o).__name__)
def test_any_container(output):
    model = Returns(output)
    with record(model, "inner") as trace:
        assert model() is output
    assert torch.equal(trace["inner"], H)
    with edit(model, {"inner": lambda h: h * 0}):
        edited = model()
    assert type(edited) is type(output)
    assert torch.equal(hidden_state(edited), NEW)
    assert torch.equal(hidden_state(output), H), "the container that was given must not change"


def test_a_replaced_state_is_also_the_attribute_of_a_model_output():
    assert torch.equal(
        replace_hidden_state(BaseModelOutput(last_hidden_state=H), NEW).last_hidden_state, NEW
    )


def test_edit_reaches_everything_downstream(tiny, ids):
    clean = tiny(**ids).last_hidden_state
    with edit(tiny, {"encoder.layer.0": lambda h: h + 1}), record(tiny, "encoder.layer.*") as trace:
        edited = tiny(**ids).last_hidden_state
    with record(tiny, "encoder.layer.0") as before:
        assert torch.equal(tiny(**ids).last_hidden_state, clean)
    assert torch.equal(trace["encoder.layer.0"], before["encoder.layer.0"] + 1)
    assert not torch.allclose(edited, clean, atol=1e-3)


def test_each_site_gets_its_own_edit_and_the_later_pattern_wins(tiny, ids):
    edits = {"encoder.layer.*": lambda h: h + 1, "encoder.layer.0": lambda h: h * 0 + 5}
    with (
        record(tiny, "encoder.layer.1") as before,
        edit(tiny, edits),
        record(tiny, "encoder.layer.*") as after,
    ):
        tiny(**ids)
    assert (after["encoder.layer.0"] == 5).all()
    assert torch.equal(after["encoder.layer.1"], before["encoder.layer.1"] + 1)


def test_recorded_states_are_copies(tiny, ids):
    with record(tiny, "encoder.layer.1") as trace:
        output = tiny(**ids).last_hidden_state
    trace["encoder.layer.1"].zero_()
    assert output.abs().sum() > 0 and not trace["encoder.layer.1"].requires_grad


def test_overlapping_and_out_of_order(tiny, ids):
    before = snapshot(tiny)
    outer, inner = record(tiny, "embeddings"), edit(tiny, {"encoder.layer.0": lambda h: 2 * h})
    trace = outer.__enter__()
    inner.__enter__()
    tiny(**ids)
    outer.__exit__(None, None, None)
    assert "embeddings" in trace
    tiny(**ids)
    inner.__exit__(None, None, None)
    assert snapshot(tiny) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_behind_when_any_module_fails(tiny, ids, error):
    tiny(
        **ids, output_hidden_states=True
    )  # transformers leaves hooks of its own: they must stay too

    def fail(*_):
        raise error("injected")

    # the container and the fused dropout never fire; the pooler's parts do
    fires = [
        n
        for n, m in tiny.named_modules()
        if not isinstance(m, nn.ModuleList) and "self.dropout" not in n
    ]
    for name in fires:
        with tiny.get_submodule(name).register_forward_hook(fail):
            before = snapshot(tiny)
            with pytest.raises(error, match="injected"), record(tiny, "encoder.layer.*"):
                with edit(tiny, {"embeddings": lambda h: h}):
                    tiny(**ids)
            assert snapshot(tiny) == before, name


@pytest.mark.parametrize("use", [record, lambda model, site: edit(model, {site: lambda h: h})])
@pytest.mark.parametrize(
    ("site", "message"),
    [
        (
            "encoder.layer.2",
            r"unknown site 'encoder.layer.2'; near names: \['encoder.layer.1', 'encoder.layer.0'",
        ),
        ("encoder.layr.*", "unknown site 'encoder.layr.*'"),
        ("", "unknown site ''"),
        ("encoder.layer", "'encoder.layer' did not fire: a ModuleList is a container"),
    ],
)
def test_sites_that_cannot_be_used(tiny, ids, use, site, message):
    before = snapshot(tiny)
    with pytest.raises(SiteError, match=message), use(tiny, site):
        tiny(**ids)
    assert snapshot(tiny) == before


def test_fused_attention_never_calls_its_dropout(tiny, ids):
    """transformers 4.40 has no fused attention for BERT: there the module fires with the weights."""
    site = "encoder.layer.0.attention.self.dropout"
    try:
        with record(tiny, site) as trace:
            tiny(**ids)
    except SiteError as error:
        assert "did not fire: fused attention" in str(error)
    else:
        assert trace[site].shape == (1, 2, 5, 5)


def test_no_forward_pass_is_an_error(tiny):
    with (
        pytest.raises(SiteError, match="nothing ran through it inside the block"),
        record(tiny, "embeddings"),
    ):
        pass


def test_errors_inside_the_block_are_not_masked(tiny):
    with pytest.raises(ZeroDivisionError), record(tiny, "embeddings"):
        1 / 0  # noqa: B018


def test_reading_a_trace_wrongly(tiny, ids):
    with record(tiny, "embeddings") as trace:
        with pytest.raises(
            SiteError, match="'embeddings' fired 0 times, not once; choose from trace.firings: .."
        ):
            trace["embeddings"]
        tiny(**ids)
        tiny(**ids)
    with pytest.raises(SiteError, match="fired 2 times, not once"):
        trace["embeddings"]
    assert len(trace.firings["embeddings"]) == 2
    with pytest.raises(SiteError, match="'pooler' fired 0 times, .* .'embeddings'"):
        trace["pooler"]


def test_output_without_a_tensor():
    model = Returns("no tensor")
    with (
        pytest.raises(TypeError, match="expected a tensor at the site 'inner', got str"),
        record(model, "inner"),
    ):
        model()
    with pytest.raises(TypeError, match="expected a tensor"), edit(model, {"inner": lambda h: h}):
        model()


def test_a_shared_module_fires_wherever_it_is_used():
    """`named_modules` lists it under its first name only; another name means the same object."""
    gelu = nn.GELU()
    model = nn.Sequential(nn.Identity(), gelu, gelu)
    with record(model, "2") as trace:
        model(H)
    assert len(trace.firings["2"]) == 2


def test_short_names_in_a_model_with_a_head(ids):
    """What `record` takes without the head's prefix can be read back without it."""
    from transformers import BertForMaskedLM

    model = BertForMaskedLM(tiny_bert().config).eval()
    with record(model, ["embeddings", "bert.encoder.layer.*", "cls"]) as trace:
        model(**ids)
    assert list(trace) == ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "cls"]
    for site in ("embeddings", "encoder.layer.1", "cls"):
        full = site if site == "cls" else f"bert.{site}"
        assert site in trace and full in trace
        assert trace[site] is trace[full] is trace.get(site) is trace.firings[full][0]
    assert "pooler" not in trace and trace.get("pooler") is None
    with pytest.raises(SiteError, match="'encoder.layer.9' fired 0 times"):
        trace["encoder.layer.9"]
    assert list(resolve(model, "encoder.layer.0")) == list(resolve(model, "bert.encoder.layer.0"))
