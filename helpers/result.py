"""What every experiment gives: which position influences which, and how that came about."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from .text import joined
from .values import shortened

# a bar for what takes longer than two seconds; TQDM_DISABLE=1: none, which tqdm's notebook form
# does not look at itself
PROGRESS = partial(tqdm, leave=False, delay=2, disable=os.environ.get("TQDM_DISABLE") == "1")
Progress = Callable[..., Iterable]  # called as tqdm is: progress(steps, desc="...")


@dataclass(frozen=True, repr=False, eq=False)
class Influence:
    """How far a target moves when a source is pushed: `.values`, `.stderr` [site, target, source].

    It is ‖∂h_target / ∂h_source‖²_F, dimensionless; with a covariance S the squares are along its
    directions, and an interaction is of second derivatives.

    `.sites` names what was observed (or, upstream, disturbed); `.targets` and `.sources` say what
    the last two axes are: numbers of positions in `.tokens`, or a name for what is not one position
    ("classifier"; "6+7", two positions at once). `.stderr` is None where `.values` are exact.
    `.how` says how it came about: experiment, model, text, method, how it was sampled, and the
    versions.
    """

    values: Tensor
    stderr: Tensor | None
    sites: list[str]
    targets: list  # of int or str
    sources: list
    tokens: list[str]
    how: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        sites, targets, sources = self.values.shape
        size = f"{sites} sites x {targets} targets x {sources} sources"
        shown = ["method", "inject", "observe", "sigma", "samples", "seed"]
        how = [f"{name}={self.how[name]}" for name in shown if self.how.get(name) is not None]
        return f"Influence({', '.join([*how, size])}: {shortened(' '.join(self.tokens), 40)})"

    def view(self, **options):
        """This influence to touch in a browser, without a kernel; as `helpers.view`."""
        from .interactive import view

        return view(self, **options)

    def to_frame(self) -> pd.DataFrame:
        """Long form, a row per site, target and source, with the tokens of both."""
        axes: list = [self.sites, self.targets, self.sources]
        index = pd.MultiIndex.from_product(axes, names=["site", "target", "source"])
        frame = pd.DataFrame({"value": self.values.flatten().numpy()}, index=index)
        if self.stderr is not None:
            frame["stderr"] = self.stderr.flatten().numpy()
        frame = frame.reset_index()
        tokens = dict(enumerate(self.tokens))
        for side in ("target", "source"):
            frame[f"{side}_token"] = [tokens.get(place, place) for place in frame[side]]
        return frame

    def words(self) -> "Influence":
        """Summed over the pieces of each word, whose numbers take the place of positions.

        The sum over the blocks of two words is the squared norm of the block that they form: all
        pieces of one are disturbed independently, and all answers of the other count. The errors
        are added up too, the most that they can come to. A word of which a piece was not measured
        is left out.
        """
        words = joined(self.tokens)
        targets, into = _members(words, self.targets)
        sources, out = _members(words, self.sources)

        def summed(values: Tensor) -> Tensor:
            return into.to(values) @ values @ out.to(values).mT

        return replace(
            self,
            values=summed(self.values),
            stderr=None if self.stderr is None else summed(self.stderr),
            targets=targets,
            sources=sources,
            tokens=[word for word, _ in words],
        )

    def save(self, path: str | Path) -> Path:
        """One safetensors file, the rest as its metadata; `load_influence` reads it."""
        tensors, words = {}, {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                tensors[name] = value.contiguous()
            elif value is not None:
                words[name] = value
        unfinished = Path(f"{path}.part")
        save_file(tensors, unfinished, {"influence": json.dumps(words)})
        return unfinished.replace(path)  # at once: an interruption leaves no half file


def load_influence(path: str | Path) -> Influence:
    """The `Influence` that `.save(path)` wrote, equal to it in every number and word.

    >>> saved = Influence(torch.eye(2)[None], None, ["layer"], [0, 1], [0, 1], ["a", "b"])
    >>> path = saved.save("influence.safetensors")
    >>> torch.equal(load_influence(path).values, saved.values), path.unlink()
    (True, None)
    """
    try:
        with safe_open(path, "pt") as file:
            words = json.loads((file.metadata() or {})["influence"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        message = f"expected a file written by Influence.save, got {str(path)!r}"
        raise ValueError(message) from error
    return Influence(**{"stderr": None} | tensors | words)


def _members(words: list[tuple[str, list[int]]], own: list) -> tuple[list, Tensor]:
    """Which words are whole among the positions `own`, and [word, own] of 1 for their pieces."""
    if isinstance(own[0], str):  # one target or source that is no position
        return own, torch.eye(len(own))
    whole = [n for n, (_, places) in enumerate(words) if set(places) <= set(own)]
    if not whole:
        raise ValueError(f"expected all pieces of a word, got {own}; measure more positions")
    belongs = torch.zeros(len(whole), len(own))
    for row, n in enumerate(whole):
        for place in words[n][1]:
            belongs[row, own.index(place)] = 1
    return whole, belongs


def text_of(inputs: Any, tokens: list[str]) -> str:
    """The text of a sentence, with its pair; the tokens of what has no text."""
    sentence = getattr(inputs, "sentence", inputs)  # of a MarkedSentence
    texts = [getattr(sentence, name, None) for name in ("text", "pair")]
    return " | ".join(filter(None, texts)) or " ".join(tokens)


def how_it_came(model: nn.Module, inputs: Any, tokens: list[str], **how: Any) -> dict[str, Any]:
    """What `Influence.how` tells; of a directory the name, not where it lies on this machine."""
    config: Any = model.config
    name = Path(config.name_or_path or type(model).__name__)
    return {
        "model": "/".join(name.parts[-2:]),
        "text": text_of(inputs, tokens),
        **how,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
