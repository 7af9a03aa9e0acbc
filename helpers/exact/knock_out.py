"""Heads that are knocked out of a layer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..hooks import hooked
from .chosen import chosen
from .post_ln import layer_parts


@contextmanager
def without_heads(layer: nn.Module, heads: Sequence[int]) -> Iterator[None]:
    """Knock heads of `layer` out while the block runs: their output is 0 where W_O takes it up.

    It holds for the layer alone and for the model that it is in, so that one sees who notices:
    run the model inside and outside the block. The derivative of such a layer is
    `layer_stack(model, inputs).jacobian(0, without=heads)`. In BERT the same by an edit:

        keep = torch.ones(heads, d); keep[1] = 0
        with edit(model, {"encoder.layer.0.attention.self": lambda h: h * keep.flatten()}): ...

    Raises `ValueError` for a head that is not there and a layer that `layer_parts` does not know.

    >>> import torch
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


def head_mask(parts: dict[str, Any], without: Sequence[int]) -> Tensor:
    """What the heads' outputs are multiplied by, [head * d]: 0 in the heads `without`, else 1."""
    weight, heads = parts["attention_output"].weight, parts["heads"]
    keep = weight.new_ones(heads, weight.shape[1] // heads)
    if without != ():
        keep[chosen("heads", without, heads)] = 0
    return keep.flatten()
