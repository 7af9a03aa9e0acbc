"""What a measurement expects of a model and its inputs, each with an error that says what to do."""

import inspect
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .models import positions
from .words import Inputs, Sentence

NUMBERED = {
    "input_ids": "vocab_size",
    "token_type_ids": "type_vocab_size",
    "position_ids": "max_position_embeddings",
}  # inputs [1, seq] that number something, and what the configuration calls how many there are
QUANTISED = re.compile("quantiz|quanto|bitsandbytes|gptq|awq")  # in the module of a class


def check_model(model: object) -> None:
    """Raise `ValueError` for what is not a model, such as a tokenizer, or `load_bert`'s pair."""
    if not isinstance(model, nn.Module):
        hint = "it comes first, and model, tokenizer = load_bert() gives one"
        if isinstance(model, tuple):
            hint = "unpack it: model, tokenizer = load_bert()"
        raise ValueError(f"expected a model, a torch.nn.Module, got {type(model).__name__}; {hint}")


def check_precision(module: nn.Module) -> None:
    """Raise `ValueError` for what is too coarse for a derivative or a small difference."""
    part: Any
    for part in (*module.modules(), *module.parameters()):
        if QUANTISED.search(type(part).__module__):
            raise ValueError(
                "expected weights in float32 or float64, got quantised ones "
                f"({type(part).__name__}), whose steps would be measured; load the model without "
                "quantisation"
            )
    for weight in module.parameters():
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"expected a model in float32 or float64, got {weight.dtype}, whose rounding would "
                "be measured; call model.float()"
            )
        if torch.is_autocast_enabled(weight.device.type):
            raise ValueError(
                "expected a measurement outside torch.autocast, whose rounding would be measured; "
                "leave the autocast block, or open autocast(enabled=False) inside it"
            )


def prepare(model: nn.Module, inputs: Inputs) -> tuple[dict[str, Any], list[str]]:
    """The inputs as a dict of [1, ...] tensors, and the tokens (positions if there were none).

    The tensors are on the model's device. A decoder, which would fill a cache, gets
    `use_cache=False` beside them. Raises `ValueError` for what a measurement on one sentence in
    eval mode cannot use: what is no model of transformers, a module in training mode, something
    else than tensors, no `input_ids`, more than one sentence, ids that the model does not have, or
    a mask that is not [1, seq] of 1 and 0 or leaves nothing.
    """
    check_model(model)
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"expected a model of transformers, got {type(model).__name__}{_inside(model)}"
        )
    for name, module in model.named_modules():
        # a part without dropout in training mode does no harm; what else is random, clean_pass sees
        if module.training and (module is model or "Dropout" in type(module).__name__):
            raise ValueError(
                f"expected a model in eval mode, got training mode in {name or 'all of it'!r}, "
                "whose dropout would be measured; call model.eval()"
            )
    inputs = getattr(inputs, "sentence", inputs)  # a MarkedSentence holds one
    given: Any = inputs.inputs if isinstance(inputs, Sentence) else inputs
    values = given.values() if isinstance(given, Mapping) else []
    is_tensors = all(isinstance(value, Tensor | None) for value in values)
    if not values or not is_tensors or given.get("input_ids") is None:
        raise ValueError(
            f"expected a Sentence, or a dict of tensors with 'input_ids', got {given!r:.80}; use "
            'encode(tokenizer, text), or tokenizer(text, return_tensors="pt")'
        )
    prepared: dict[str, Any] = {}
    for name, value in given.items():
        if value is not None:
            prepared[name] = value.to(model.device)
    ids = prepared["input_ids"]
    if ids.ndim != 2 or len(ids) != 1 or not ids.numel():
        raise ValueError(
            f"expected one sentence, input_ids [1, seq], got {list(ids.shape)}; pass one at a time"
        )
    limit = positions(model)
    if 0 < limit < ids.shape[1]:  # some configurations say -1
        raise ValueError(
            f"expected at most {limit} tokens, the model's positions, got {ids.shape[1]}; "
            "shorten the text"
        )
    for name, size in NUMBERED.items():
        if name in prepared:
            _check_numbers(name, prepared[name], ids.shape, getattr(model.config, size, math.inf))
    mask = prepared.get("attention_mask", torch.ones_like(ids))
    is_mask = (mask == 0) | (mask == 1)
    if mask.shape != ids.shape or not is_mask.all() or not mask.any():
        raise ValueError(
            f"expected an attention_mask [1, seq={ids.shape[1]}] of 1 (attended to) and 0, with at "
            f"least one 1, got {list(mask.shape)} of {mask.unique().tolist()[:5]}"
        )
    takes = inspect.signature(model.forward).parameters
    if "decoder_input_ids" in takes and "decoder_input_ids" not in prepared:
        raise ValueError(
            f"expected an encoder, got {type(model).__name__}, which has a decoder as well and "
            "wants decoder_input_ids; pass model.get_encoder()"
        )
    if "use_cache" in takes and getattr(model.config, "is_decoder", False):
        prepared["use_cache"] = False  # a layer that is run again would find what it left there
    if isinstance(inputs, Sentence):
        return prepared, inputs.tokens
    return prepared, [str(position) for position in range(ids.shape[1])]


def _inside(module: nn.Module) -> str:
    """What to pass in place of a module that holds a model, such as "model[0].model"."""
    for name, part in module.named_modules():
        if isinstance(part, PreTrainedModel):
            steps = [f"[{step}]" if step.isdigit() else f".{step}" for step in name.split(".")]
            return f", which holds one; pass model{''.join(steps)}"
    return ""


def _check_numbers(name: str, given: Tensor, shape: torch.Size, size: float) -> None:
    """Torch would repeat a single one for all, and says "index out of range" for the rest."""
    if given.shape[:2] != shape:  # TAPAS has several token types for each token
        raise ValueError(f"expected {name} {list(shape)}, as input_ids, got {list(given.shape)}")
    low, high = int(given.min()), int(given.max())
    if low < 0 or (high >= size and given.shape == shape):
        raise ValueError(
            f"expected {name} from 0 to {size - 1}, got {low if low < 0 else high}; is the "
            "tokenizer the model's own?"
        )
