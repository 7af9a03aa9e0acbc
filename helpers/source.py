"""Show the source of what is installed, so that the text can never be out of date."""

import importlib
import inspect
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Source text with where it stands; a notebook shows it as a highlighted code block."""

    code: str
    file: str  # below site-packages, never an absolute path
    line: int
    package: str
    version: str

    def __str__(self) -> str:
        return f"# {self.package} {self.version}, {self.file}, line {self.line}\n{self.code}"

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}```"


def show_source(obj) -> Source:
    """Live source of a class, function, method or module of an installed package.

    Returns a `Source` with `.code`, `.file` (relative to site-packages), `.line`, `.package` and `.version`.
    Raises `TypeError` for an object without Python source: an instance, or something written in C.

    >>> from transformers.models.bert.modeling_bert import BertIntermediate
    >>> source = show_source(BertIntermediate.forward)
    >>> source.file, "self.dense(hidden_states)" in source.code
    ('transformers/models/bert/modeling_bert.py', True)
    """
    try:
        lines, line = inspect.getsourcelines(inspect.unwrap(obj) if callable(obj) else obj)
        module = inspect.getmodule(obj)
        assert module is not None
    except (TypeError, OSError, AssertionError) as error:
        raise TypeError(
            f"expected a class, function or module with Python source, got {obj!r:.80}; for an instance, pass type(obj)"
        ) from error
    package = importlib.import_module(module.__name__.partition(".")[0])
    file = module.__name__.replace(".", "/") + ("/__init__.py" if hasattr(module, "__path__") else ".py")
    return Source("".join(lines), file, max(line, 1), package.__name__, package.__version__)
