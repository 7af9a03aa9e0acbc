"""The parts of a post-LN layer, wherever an architecture keeps them.

Post-LN (Vaswani et al. 2017, Devlin et al. 2019): attention, add and LayerNorm; feed-forward, add
and LayerNorm.
"""

import inspect
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from ..inputs import check_precision

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
