"""Models that the tests share, and the snapshot that says whether anything was left behind."""

import hashlib

import pytest
import torch
from lab import chromium
from transformers import BertConfig, BertModel

from helpers import encode, load_bert

torch.set_num_threads(1)  # tiny models: a second thread costs more than it does


@pytest.fixture(scope="session")
def minilm():
    return load_bert()


@pytest.fixture(scope="session")
def sentence(minilm):
    return encode(minilm[1], "Beijing is the capital of China, said the man.")


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def tiny_bert(dtype=torch.float32, **config):
    """A random BertModel with weights large enough for its attention and its GELU to be far from linear."""
    settings = dict(
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=16,
        vocab_size=50,
    )
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(**settings | {"max_position_embeddings": 40, "initializer_range": 0.5} | config)
    )
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.to(dtype).eval().requires_grad_(False)


@pytest.fixture
def tiny():
    return tiny_bert()


@pytest.fixture
def ids():
    return {"input_ids": torch.tensor([[2, 7, 11, 5, 3]])}


def equal(first, second):
    """Whether two influences are the same in every number (NaN like NaN) and word."""

    def numbers(x):
        return None if x is None else x.nan_to_num(-1).tolist()

    told = [
        (numbers(x.values), numbers(x.stderr), x.sites, x.targets, x.sources, x.tokens, x.how)
        for x in (first, second)
    ]
    return told[0] == told[1]


def snapshot(model):
    """Everything about a model and the process that a measurement must leave as it was."""
    hooks = {
        (name, kind): tuple(getattr(module, kind).items())
        for name, module in model.named_modules()
        for kind in vars(module)
        if kind.endswith("hooks")
    }
    weights = {
        name: (hashlib.sha256(p.detach().numpy().tobytes()).hexdigest(), p.requires_grad)
        for name, p in model.named_parameters()
    }
    modes = {name: module.training for name, module in model.named_modules()}
    return {
        "hooks": hooks,
        "weights": weights,
        "modes": modes,
        "attention": model.config._attn_implementation,
        "rng": torch.get_rng_state().numpy().tobytes(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
    }
