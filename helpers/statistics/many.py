"""One experiment on many sentences, kept in a folder so that it can be gone on with."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..result import PROGRESS, Influence, Progress, load_influence, text_of


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
        wanted: dict[str, Any] = {"text": text_of(sentence, found.tokens)}
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
