"""What a measurement expects of a model and its inputs, each with an error that says what to do."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .models import positions
from .words import Inputs, Sentence

LIMITS = {
    "input_ids": "vocab_size",
    "token_type_ids": "type_vocab_size",
    "position_ids": "max_position_embeddings",
}  # inputs [1, seq] that number something, and how the configuration names how many there are
QUANTISED = re.compile("quantiz|quanto|bitsandbytes|gptq|awq")  # in the module of a class


def check_model(model: object) -> None:
    """Raise `ValueError` for what is not a model, such as a tokenizer, or `load_bert`'s pair."""
    if isinstance(model, nn.Module):
        return
    got, hint = type(model).__name__, "model, tokenizer = load_bert() gives one"
    if isinstance(model, tuple):
        hint = "unpack it: model, tokenizer = load_bert()"
    elif isinstance(getattr(model, "model", None), nn.Module):
        hint = "pass the .model that it holds"
    elif hasattr(model, "tokenize"):
        hint = "a tokenizer; the model comes first, and is load_bert()[0]"
    raise ValueError(f"expected a model, a torch.nn.Module, got {got}; {hint}")


def check_precision(module: nn.Module) -> None:
    """Raise `ValueError` for what is too coarse for a derivative or a small difference."""
    kinds = {type(part) for part in (*module.modules(), *module.parameters())}
    if quantised := sorted(kind.__name__ for kind in kinds if QUANTISED.search(kind.__module__)):
        raise ValueError(
            f"expected weights in float32 or float64, got quantised ones ({', '.join(quantised)}), "
            "whose steps would be measured; load the model without quantisation"
        )
    for device, dtype in {(weight.device.type, weight.dtype) for weight in module.parameters()}:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"expected a model in float32 or float64, got {dtype}, whose rounding would be "
                "measured; call model.float()"
            )
        if torch.is_autocast_enabled(device):
            raise ValueError(
                "expected a measurement outside torch.autocast, got autocast to "
                f"{torch.get_autocast_dtype(device)}, whose rounding would be measured; leave the "
                "autocast block, or open autocast(enabled=False) inside it"
            )


def prepare(model: nn.Module, inputs: Inputs) -> tuple[dict[str, Any], list[str]]:
    """The inputs as a dict of [1, ...] tensors, and the tokens (positions if there were none).

    The tensors are on the model's device. A decoder, which would fill a cache, gets
    `use_cache=False` beside them. Raises `ValueError` for what a measurement on one sentence in
    eval mode cannot use: what holds a model and is none, a module in training mode, weights that
    are not on one device, no `input_ids`, something else than tensors, more than one sentence, ids
    that the model does not have, or a mask that is not [1, seq] of 1 and 0 or leaves nothing.
    """
    check_model(model)
    kind, config = type(model).__name__, getattr(model, "config", None)
    inner = None if isinstance(model, PreTrainedModel) else _inside(model)
    if inner or config is None:
        hint = f", which holds one; pass {inner}" if inner else ""
        raise ValueError(f"expected a model of transformers, with a config, got {kind}{hint}")
    inputs = getattr(inputs, "sentence", inputs)  # a MarkedSentence holds one
    if not isinstance(inputs, Sentence | Mapping):
        raise ValueError(
            f"expected a Sentence or a dict of tensors, got {type(inputs).__name__}; use "
            "encode(tokenizer, text)"
        )
    tokens = inputs.tokens if isinstance(inputs, Sentence) else None
    pairs = (inputs.inputs if isinstance(inputs, Sentence) else inputs).items()
    given: dict[str, Any] = {name: value for name, value in pairs if value is not None}
    for name, module in model.named_modules():
        # a part without dropout in training mode does no harm; what else is random, clean_pass sees
        if module.training and (module is model or "Dropout" in type(module).__name__):
            raise ValueError(
                f"expected a model in eval mode, got training mode in {name or kind!r}, whose "
                "dropout would be measured; call model.eval()"
            )
    if "input_ids" not in given:
        raise ValueError(
            f"expected inputs with 'input_ids', got the keys {sorted(given)}; use "
            "encode(tokenizer, text).inputs"
        )
    device, *more = {weight.device for weight in model.parameters()}
    if more or device.type == "meta":
        raise ValueError(
            f"expected a model with all its weights on one device, got {[device, *more]}; load it "
            "there whole, or move it with model.to(...)"
        )
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"expected tensors, got {type(value).__name__} for {name!r}; use "
                'encode(tokenizer, text), or tokenizer(text, return_tensors="pt")'
            )
        given[name] = value.to(device)
    shape = given["input_ids"].shape
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
            f"expected at most {limit} tokens, the model's positions, got {shape[1]}; shorten the "
            "text"
        )
    for name, value in given.items():
        per_token = name in (*LIMITS, "attention_mask")
        if name == "token_type_ids" and value.ndim == 3:
            value = value[..., 0]  # TAPAS has several for each token
        if value.shape != (shape if per_token else (1, *value.shape[1:])):
            expected = list(shape) if per_token else [1, "..."]
            raise ValueError(f"expected {name} {expected}, as input_ids, got {list(value.shape)}")
        if name in LIMITS:
            _check_ids(name, value, getattr(config, LIMITS[name], None))
    mask = given.get("attention_mask", torch.ones(1))
    if not mask.any() or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            "expected an attention_mask of 1 (attended to) and 0, with at least one 1, got "
            f"{mask.unique().tolist()[:5]}"
        )
    takes = inspect.signature(model.forward).parameters
    if "decoder_input_ids" in takes and "decoder_input_ids" not in given:
        raise ValueError(
            f"expected an encoder, got {kind}, which has a decoder as well and wants "
            "decoder_input_ids; pass model.get_encoder()"
        )
    if getattr(config, "is_decoder", False) and "use_cache" in takes:
        given["use_cache"] = False  # a layer that is run again would find what it left there
    return given, tokens or [str(position) for position in range(shape[1])]


def _inside(module: nn.Module) -> str | None:
    """How to write the model of transformers that a module holds, such as "model[0].model"."""
    for name, part in module.named_modules():
        if isinstance(part, PreTrainedModel):
            steps = [f"[{step}]" if step.isdigit() else f".{step}" for step in name.split(".")]
            return "model" + "".join(steps)
    return None


def _check_ids(name: str, ids: Tensor, size: int | None) -> None:
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or (size and high >= size):
        raise ValueError(
            f"expected {name} from 0 to {size - 1 if size else 'the number of them'}, got "
            f"{low if low < 0 else high}; is the tokenizer the model's own?"
        )
