"""What a measurement expects of a model and its inputs, each with an error that says what to do."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .models import positions
from .words import Inputs, Sentence

LIMITS = {
    "input_ids": "vocab_size",
    "token_type_ids": "type_vocab_size",
    "position_ids": "max_position_embeddings",
}  # inputs [1, seq] that number something, and how the configuration names how many there are


def check_model(model: object) -> None:
    """Raise `ValueError` for what is not a model, such as a tokenizer or the pair that `load_bert` returns."""
    if isinstance(model, nn.Module):
        return
    got = type(model).__name__
    if isinstance(model, tuple):
        raise ValueError(
            f"expected a model, got a {got}; unpack it: model, tokenizer = load_bert()"
        )
    if hasattr(model, "tokenize"):
        raise ValueError(
            f"expected a model, got the tokenizer {got}; the model comes first, and is load_bert()[0]"
        )
    raise ValueError(
        f"expected a model, a torch.nn.Module, got {got}; model, tokenizer = load_bert() gives one"
    )


def check_precision(module: nn.Module) -> None:
    """Raise `ValueError` for weights too coarse for a derivative or a small difference."""
    if (dtype := next(module.parameters()).dtype) not in (torch.float32, torch.float64):
        raise ValueError(
            f"expected a model in float32 or float64, got {dtype}, whose rounding would be measured; call model.float()"
        )


def prepare(model: nn.Module, inputs: Inputs) -> tuple[dict[str, Any], list[str]]:
    """The inputs as a dict of [1, ...] tensors and the tokens (their positions when only a dict was given).

    A decoder, which would fill a cache, gets `use_cache=False` beside them. Raises `ValueError` for
    what a measurement on one sentence in eval mode cannot use: a model in training mode, no
    `input_ids`, something else than tensors, more than one sentence, ids that the model does not
    have, a mask that is not [1, seq] of 1 and 0 or leaves nothing, or inputs on another device than
    the model.
    """
    check_model(model)
    config: Any = getattr(model, "config", None)
    if config is None:
        raise ValueError(
            f"expected a model of transformers, with a config, got {type(model).__name__}"
        )
    if not isinstance(inputs, Sentence | Mapping):
        raise ValueError(
            f"expected a Sentence or a dict of tensors, got {type(inputs).__name__}; use encode(tokenizer, text)"
        )
    tokens = inputs.tokens if isinstance(inputs, Sentence) else None
    given: dict[str, Any] = dict(inputs.inputs if isinstance(inputs, Sentence) else inputs)
    given = {name: value for name, value in given.items() if value is not None}
    if model.training:
        raise ValueError(
            "expected a model in eval mode, got training mode, whose dropout would be measured; call model.eval()"
        )
    if "input_ids" not in given:
        raise ValueError(
            f"expected inputs with 'input_ids', got the keys {sorted(given)}; use encode(tokenizer, text).inputs"
        )
    device = next(model.parameters()).device
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"expected tensors, got {type(value).__name__} for {name!r}; use encode(tokenizer, text), or "
                'tokenizer(text, return_tensors="pt")'
            )
        if value.device != device:
            raise ValueError(
                f"expected inputs on the model's device {device}, got {value.device} for {name!r}; "
                f"move them with .to({str(device)!r})"
            )
    shape = tuple(given["input_ids"].shape)
    if len(shape) != 2 or shape[0] != 1 or shape[1] == 0:
        raise ValueError(
            f"expected one sentence, input_ids [1, seq], got {list(shape)}; pass one at a time"
        )
    if tokens is not None and len(tokens) != shape[1]:
        raise ValueError(
            f"expected {shape[1]} tokens, one for each of the input_ids, got {len(tokens)}"
        )
    if shape[1] > (limit := positions(model)):
        raise ValueError(
            f"expected at most {limit} tokens, the model's positions, got {shape[1]}; shorten the text"
        )
    for name, value in given.items():
        fits = (
            value.shape == shape
            if name in (*LIMITS, "attention_mask")
            else value.ndim > 0 and len(value) == 1
        )
        if not fits:
            expected = list(shape) if name in (*LIMITS, "attention_mask") else [1, "..."]
            raise ValueError(f"expected {name} {expected}, as input_ids, got {list(value.shape)}")
        if name in LIMITS:
            _check_ids(name, value, getattr(config, LIMITS[name], None))
    if (mask := given.get("attention_mask")) is not None:
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(
                f"expected an attention_mask of 1 (attended to) and 0, got {mask.unique().tolist()[:5]}"
            )
        if not mask.any():
            raise ValueError(
                "expected an attention_mask with at least one 1, got only 0: nothing is attended to"
            )
    if (
        getattr(config, "is_decoder", False)
        and "use_cache" in inspect.signature(model.forward).parameters
    ):
        given["use_cache"] = False  # a layer that is run again would find what it left there
    return given, tokens or [str(position) for position in range(shape[1])]


def _check_ids(name: str, ids: Tensor, size: int | None) -> None:
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(
            f"expected whole numbers in {name}, got {ids.dtype}; convert them with .long()"
        )
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or (size and high >= size):
        raise ValueError(
            f"expected {name} from 0 to {size - 1 if size else 'the number of them'}, got "
            f"{low if low < 0 else high}; is the tokenizer the model's own?"
        )
