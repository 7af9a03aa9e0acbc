"""Show the source of what is installed, so that the text can never be out of date."""

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """Source text with where it stands; a notebook shows it as a highlighted code block."""

    code: str
    file: str  # below site-packages, never an absolute path; or "a notebook's cell"
    line: int
    package: str
    version: str  # "" for a package that does not say it

    def __str__(self) -> str:
        package = f"{self.package} {self.version}".strip()
        return f"# {package}, {self.file}, line {self.line}\n{self.code}"

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}```"


def show_source(obj) -> Source:
    """Live source of a class, function, method or module.

    It may stand in an installed package, your own script or, if it is a function, your notebook.
    Returns a `Source` with `.code`, `.file` (relative to site-packages), `.line`, `.package` and
    `.version`. Raises `TypeError` for an object without Python source: an instance, something
    written in C, or a class in a notebook's cell.

    >>> from transformers.models.bert.modeling_bert import BertIntermediate
    >>> source = show_source(BertIntermediate.forward)
    >>> source.file, "self.dense(hidden_states)" in source.code
    ('transformers/models/bert/modeling_bert.py', True)
    """
    try:
        lines, line = inspect.getsourcelines(obj)
    except (TypeError, OSError) as error:
        raise TypeError(
            f"expected a class, function or module with Python source, got {obj!r:.80}; for an "
            "instance, pass type(obj); for a class in a notebook's cell, one of its functions"
        ) from error
    module: Any = inspect.getmodule(obj)
    name = module.__name__
    package = name.partition(".")[0]
    if name == "__main__":
        file = Path(getattr(module, "__file__", "a notebook's cell")).name
    elif hasattr(module, "__path__"):
        file = name.replace(".", "/") + "/__init__.py"
    else:
        file = name.replace(".", "/") + ".py"
    version = getattr(sys.modules[package], "__version__", "")
    return Source("".join(lines), file, max(line, 1), package, version)
