"""The parts of a post-LN layer, wherever an architecture keeps them, and their derivatives.

Post-LN (Vaswani et al. 2017, Devlin et al. 2019): attention, add and LayerNorm; feed-forward, add
and LayerNorm.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..hooks import hooked
from ..inputs import check_precision
from ..values import whole

INSTEAD = 'use method="noise", which measures any layer'
NAMES = {  # where a layer keeps its parts: dotted names below it
    "BERT": {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",  # the feed-forward's first map, from hidden to the inner width
        "activation": "intermediate.intermediate_act_fn",
        "down": "output.dense",
        "output_norm": "output.LayerNorm",
        "heads": "attention.self.num_attention_heads",  # how many
    },
    "MPNet": {
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "attention_output": "attention.attn.o",
        "attention_norm": "attention.LayerNorm",
        "up": "intermediate.dense",
        "activation": "intermediate.intermediate_act_fn",
        "down": "output.dense",
        "output_norm": "output.LayerNorm",
        "heads": "attention.attn.num_attention_heads",
    },
    "DistilBERT": {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "up": "ffn.lin1",
        "activation": "ffn.activation",
        "down": "ffn.lin2",
        "output_norm": "output_layer_norm",
        "heads": "attention.n_heads",
    },
    "ALBERT": {
        "query": "attention.query",
        "key": "attention.key",
        "value": "attention.value",
        "attention_output": "attention.dense",
        "attention_norm": "attention.LayerNorm",
        "up": "ffn",
        "activation": "activation",
        "down": "ffn_output",
        "output_norm": "full_layer_layer_norm",
        "heads": "attention.num_attention_heads",
    },
}
LINEAR = ("query", "key", "value", "attention_output", "up", "down")
NORMS = ("attention_norm", "output_norm")


class NormAt(NamedTuple):
    """What the derivative of a LayerNorm needs at its inputs, [seq, hidden] each."""

    x_hat: Tensor  # centred and divided by the standard deviation s
    gain: Tensor  # γ/s, what the centred input is multiplied by

    def at(self, positions: Tensor) -> "NormAt":
        """At some positions, for the matrices there: [position, 1, hidden]"""
        return NormAt(self.x_hat[positions, None], self.gain[positions, None])


def layer_parts(layer: nn.Module) -> dict[str, Any]:
    """The parts of a layer by their names in `NAMES`.

    Raises `ValueError` for a layer that the derivation does not cover.

    >>> from transformers import DistilBertConfig, DistilBertModel
    >>> tiny = DistilBertModel(DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=16))
    >>> layer_parts(tiny.eval().transformer.layer[0])["up"]
    Linear(in_features=8, out_features=16, bias=True)
    """
    kind = type(layer).__name__
    names = names_of(layer)
    if names is None:
        missing = [name for name in NAMES["BERT"].values() if not _has(layer, name)]
        raise ValueError(
            f"expected a post-LN layer with the submodules of {', '.join(NAMES)}, {kind} has, of "
            f"BERT's, no {missing}; {INSTEAD}"
        )
    parts: dict[str, Any] = {part: attrgetter(name)(layer) for part, name in names.items()}
    for part in (*LINEAR, *NORMS):
        wanted = nn.LayerNorm if part in NORMS else nn.Linear
        if not isinstance(parts[part], wanted):
            got = _kind(parts[part])
            raise ValueError(
                f"expected a {wanted.__name__} at {names[part]!r} of {kind}, got {got}"
            )
    hidden = parts["output_norm"].weight.shape[0]
    for part in LINEAR[:4]:
        if (shape := tuple(parts[part].weight.shape)) != (hidden, hidden):
            raise ValueError(
                f"expected {part} of {kind} to be {hidden} x {hidden}, got {shape}; {INSTEAD}"
            )
    if layer.training:
        raise ValueError(
            "expected a layer in eval mode, got training mode, whose dropout is random; "
            "call model.eval()"
        )
    check_precision(layer)
    return parts


def names_of(layer: nn.Module) -> dict[str, str] | None:
    """The member of `NAMES` all of whose parts a module has, or None."""
    return next((names for names in NAMES.values() if _has(layer, *names.values())), None)


def head_mask(parts: dict[str, Any], without: Sequence[int]) -> Tensor:
    """What the heads' outputs are multiplied by, [head * d]: 0 in the heads `without`, else 1."""
    weight, heads = parts["attention_output"].weight, parts["heads"]
    keep = weight.new_ones(heads, weight.shape[1] // heads)
    if without != ():
        keep[chosen("heads", without, heads)] = 0
    return keep.flatten()


@contextmanager
def without_heads(layer: nn.Module, heads: Sequence[int]) -> Iterator[None]:
    """Knock heads of `layer` out while the block runs: their output is 0 where W_O takes it up.

    It holds for the layer alone and for the model that it is in, so that one sees who notices:
    run the model inside and outside the block. The derivative of such a layer is
    `layer_stack(model, inputs).jacobian(0, without=heads)`. In BERT the same by an edit:

        keep = torch.ones(heads, d); keep[1] = 0
        with edit(model, {"encoder.layer.0.attention.self": lambda h: h * keep.flatten()}): ...

    Raises `ValueError` for a head that is not there and a layer that `layer_parts` does not know.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, intermediate_size=16))
    >>> layer = tiny.eval().encoder.layer[0]
    >>> x = torch.ones(1, 3, 8)
    >>> with without_heads(layer, [0, 1]):
    ...     y = layer.attention.output(layer.attention.self(x)[0], x)
    >>> torch.allclose(y, layer.attention.output(0 * x, x))
    True
    """
    parts = layer_parts(layer)
    keep = head_mask(parts, heads)

    def silence(_name: str, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return (args[0] * keep, *args[1:]), kwargs

    with hooked({"attention_output": parts["attention_output"]}, before=silence):
        yield


def chosen(name: str, wanted: Sequence[int] | None, count: int) -> list[int]:
    """The layers, positions or heads wanted, by number: all of `count` by default."""
    if wanted is None:
        return list(range(count))
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        raise ValueError(
            f"expected {name} as a list of numbers from 0 to {count - 1}, got {wanted!r}; "
            f"write [{wanted}]"
        )
    found = [whole(number, f"each of {name}", 0, count - 1) for number in wanted]
    if not found or len(set(found)) != len(found):
        raise ValueError(f"expected one or more {name}, each once, got {found}")
    return found


def score_bias(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Tensor | None:
    """What a call adds to the scores besides the mask, [head, target, source]; MPNet's do."""
    call = inspect.signature(layer.forward).bind(None, *args, **kwargs)
    given = call.arguments.get("position_bias")
    if call.arguments.get("sinusoidal_pos") is not None:  # RoFormer's
        raise ValueError(
            "expected a post-LN layer's computation, "
            f"{type(layer).__name__} rotates queries and keys; {INSTEAD}"
        )
    return None if given is None else given[0]


def layer_norm(norm: nn.LayerNorm, z: Tensor) -> tuple[Tensor, NormAt]:
    """LN(z) of [seq, hidden], and what its derivative needs."""
    centred = z - z.mean(-1, keepdim=True)
    s = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    gain = norm.weight.detach().to(z.dtype) / s
    return gain * centred + norm.bias.detach().to(z.dtype), NormAt(centred / s, gain)


def norm_jvp(norm: NormAt, t: Tensor) -> Tensor:
    """LN'·t = γ/s ∘ (t - mean(t) - x̂ mean(x̂ ∘ t)), along the last axis."""
    x, gain = norm
    t = t - t.mean(-1, keepdim=True)
    return t.sub_(x * (t * x).mean(-1, keepdim=True)).mul_(gain)


def norm_vjp(norm: NormAt, c: Tensor) -> Tensor:
    """LN'ᵀ·c, the same factors in the other order."""
    x, gain = norm
    c = c * gain
    return c - c.mean(-1, keepdim=True) - x * (c * x).mean(-1, keepdim=True)


def with_slope(activation: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """φ(x) and φ'(x) of an elementwise activation, by reverse mode: an output has one input."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()  # of inference mode's own tensors there is no gradient
        y = activation(x * 1)  # one that works in place may not change x itself
        (slope,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        ramp = torch.linspace(1, 2, x.shape[-1]).to(x)  # other weights than 1 tell inputs apart
        (weighted,) = torch.autograd.grad((ramp * y).sum(), x)
    if not torch.allclose(weighted, ramp * slope, rtol=1e-3, atol=1e-5):
        raise ValueError(
            "expected an activation of each number by itself, got one in which numbers meet, "
            f"{_kind(activation)}"
        )
    return y.detach(), slope


def check_output(layer: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """Whatever else a layer might do (causal masks, rotary positions, an edit) shows in its output.

    Both are [seq, hidden].
    """
    precision = max(torch.finfo(theirs.dtype).eps, torch.finfo(ours.dtype).eps)
    allowed = 1e3 * precision * ours.abs().max()
    close = theirs.shape == ours.shape and ((theirs - ours).abs() <= allowed).all()
    if not close:  # a NaN is not close to anything
        raise ValueError(
            f"expected a post-LN layer's computation, {type(layer).__name__} gives another output "
            f"(rotary positions, relative ones, a decoder's causal attention, another order of its "
            f"parts, an edit in place, or no number at all); {INSTEAD}"
        )


def _kind(module: Any) -> str:
    """Where a module's class stands: two of one name differ; and what to do with an adapter."""
    if hasattr(module, "base_layer"):
        return "an adapter's (LoRA); model = model.merge_and_unload() makes plain layers of them"
    return f"{type(module).__module__}.{type(module).__name__}; {INSTEAD}"


def _has(layer: nn.Module, *names: str) -> bool:
    try:
        attrgetter(*names)(layer)
    except AttributeError:
        return False
    return True
