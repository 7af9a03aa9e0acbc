"""Show the source of what is installed, so that the text can never be out of date."""

import ast
import importlib
import inspect
import linecache
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType


@dataclass(frozen=True)
class Source:
    """Source text with where it stands; a notebook shows it as a highlighted code block."""

    code: str
    file: str  # below site-packages, never an absolute path; "a notebook's cell" for what is defined there
    line: int
    package: str
    version: str  # "" for a package that does not say it

    def __str__(self) -> str:
        return f"# {f'{self.package} {self.version}'.strip()}, {self.file}, line {self.line}\n{self.code}"

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}```"


def show_source(obj) -> Source:
    """Live source of a class, function, method or module: of an installed package, or of your own script or notebook.

    Returns a `Source` with `.code`, `.file` (relative to site-packages), `.line`, `.package` and
    `.version`. Raises `TypeError` for an object without Python source: an instance, or something
    written in C.

    >>> from transformers.models.bert.modeling_bert import BertIntermediate
    >>> source = show_source(BertIntermediate.forward)
    >>> source.file, "self.dense(hidden_states)" in source.code
    ('transformers/models/bert/modeling_bert.py', True)
    """
    try:
        plain = inspect.unwrap(obj) if callable(obj) else obj
        lines, line = _class_in_a_cell(plain) or inspect.getsourcelines(plain)
        module = inspect.getmodule(obj)
        assert module is not None
    except (TypeError, OSError, AssertionError) as error:
        raise TypeError(
            f"expected a class, function or module with Python source, got {obj!r:.80}; for an instance, pass type(obj)"
        ) from error
    name, code, line = module.__name__, "".join(lines), max(line, 1)
    if name == "__main__":
        script = getattr(module, "__file__", None)
        return Source(code, Path(script).name if script else "a notebook's cell", line, name, "")
    top = name.partition(".")[0]
    file = name.replace(".", "/") + ("/__init__.py" if hasattr(module, "__path__") else ".py")
    if top in sys.stdlib_module_names:
        return Source(code, file, line, "Python", platform.python_version())
    return Source(
        code, file, line, top, str(getattr(importlib.import_module(top), "__version__", ""))
    )


def _class_in_a_cell(obj) -> tuple[list[str], int] | None:
    """Lines of a class that was defined in a notebook, where it has no file: those around one of its functions."""
    if not isinstance(obj, type) or getattr(sys.modules.get(obj.__module__), "__file__", None):
        return None
    for function in filter(lambda part: isinstance(part, FunctionType), vars(obj).values()):
        code = inspect.unwrap(function).__code__  # transformers wraps some
        lines = linecache.getlines(code.co_filename)
        for node in ast.walk(ast.parse("".join(lines))):
            first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
            inside = first <= code.co_firstlineno <= last
            if isinstance(node, ast.ClassDef) and node.name == obj.__name__ and inside:
                return lines[first - 1 : last], first
    return None
