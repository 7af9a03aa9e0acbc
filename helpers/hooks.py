"""`record` and `edit`: forward hooks as context managers that leave nothing behind.

A site is a module's own dotted name, as in `model.named_modules()`; a glob matches name part by name part, so
`"encoder.layer.*"` is every layer and none of what is inside one. A module may return a tensor, a tuple with `None`s,
a dict-like ModelOutput or any nesting of them; the *hidden state* is the first tensor in it.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor, nn


class SiteError(KeyError):
    """A site that does not exist, did not run, or ran more than once."""

    __str__ = Exception.__str__  # KeyError would show its message quoted


class Trace(dict):
    """Site name -> detached hidden state, in firing order. `.firings[site]` lists every firing."""

    def __init__(self, modules: dict[str, nn.Module]):
        super().__init__()
        self.firings: dict[str, list[Tensor]] = {}
        self._modules = modules

    def __getitem__(self, site: str) -> Tensor:
        if (fired := len(self.firings.get(site, ()))) > 1:
            raise SiteError(f"{site!r} fired {fired} times while recording; choose one from trace.firings[{site!r}]")
        return super().__getitem__(site)

    def __missing__(self, site: str) -> Tensor:
        if site in self._modules:
            raise SiteError(silent_reason(site, self._modules[site]))
        raise SiteError(f"{site!r} was not recorded; recorded sites: {sorted(self._modules)}")


@contextmanager
def record(model: nn.Module, sites: str | Iterable[str]) -> Iterator[Trace]:
    """Record the hidden state at the given sites while the block runs.

    Yields a dict from site name to a detached copy of the hidden state, e.g. [1, seq, hidden]. Raises `SiteError`
    (a `KeyError`) for an unknown site, for a named site that did not run and for a glob none of whose sites ran;
    `TypeError` for a named site whose output holds no tensor. Inside an `edit` of the same site the edited value is
    seen, because PyTorch runs hooks in the order of their registration (torch.nn.Module.register_forward_hook).

    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> with record(tiny.eval(), "encoder.layer.*") as trace:
    ...     out = tiny(torch.tensor([[1, 2, 3]]))
    >>> list(trace), torch.equal(trace["encoder.layer.1"], out.last_hidden_state)
    (['encoder.layer.0', 'encoder.layer.1'], True)
    """
    patterns = [sites] if isinstance(sites, str) else list(sites)
    matches = {pattern: resolve(model, pattern) for pattern in patterns}
    modules = {name: module for found in matches.values() for name, module in found.items()}
    named = {pattern for pattern in patterns if not _is_glob(pattern)}
    trace = Trace(modules)

    def store(site: str, _module, _args, output) -> None:
        tensor = hidden_state(output)
        if tensor is None:
            if site in named:
                raise TypeError(f"expected a tensor in the output of {site!r}, got {type(output).__name__} without one")
            return
        tensor = tensor.detach().clone()
        trace.firings.setdefault(site, []).append(tensor)
        dict.__setitem__(trace, site, tensor)

    with hooked({name: partial(store, name) for name in modules}, modules):
        yield trace
    for pattern, found in matches.items():
        if not trace.keys() & found.keys():
            raise SiteError(silent_reason(pattern, next(iter(found.values()))))


@contextmanager
def edit(model: nn.Module, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace the hidden state at each site by a function of it while the block runs.

    `edits` maps a site or glob to a function that gets the hidden state, e.g. [1, seq, hidden], and returns one of the
    same shape; the container around it, whatever it is, is rebuilt. Raises `SiteError` for an unknown site or one
    that did not run, `TypeError` for an output without a tensor, `ValueError` when the function returns something
    else than a tensor of the same shape.

    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> with edit(tiny.eval(), {"encoder.layer.1": lambda h: h * 0}):
    ...     tiny(torch.tensor([[1, 2, 3]])).last_hidden_state.abs().sum().item()
    0.0
    """
    matches = {pattern: resolve(model, pattern) for pattern in edits}
    modules = {name: module for found in matches.values() for name, module in found.items()}
    functions = {name: edits[pattern] for pattern, found in matches.items() for name in found}
    fired = set()

    def apply(site: str, _module, _args, output):
        hidden = hidden_state(output)
        if hidden is None:
            raise TypeError(f"expected a tensor in the output of {site!r}, got {type(output).__name__} without one")
        edited = functions[site](hidden)
        if not isinstance(edited, Tensor) or edited.shape != hidden.shape:
            got = list(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
            raise ValueError(f"expected the edit of {site!r} to return a tensor {list(hidden.shape)}, got {got}")
        fired.add(site)
        return replace_hidden_state(output, edited)

    with hooked({name: partial(apply, name) for name in modules}, modules):
        yield
    for pattern, found in matches.items():
        if not fired & found.keys():
            raise SiteError(silent_reason(pattern, next(iter(found.values()))))


def resolve(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The modules that a site name or glob means, by name; below `model.base_model_prefix` when not at the top."""
    modules = dict(model.named_modules())
    prefix = getattr(model, "base_model_prefix", "")
    for candidate in (pattern, f"{prefix}.{pattern}"):
        if found := {name: modules[name] for name in modules if name and _matches(name, candidate)}:
            return found
    near = difflib.get_close_matches(pattern, modules, n=3, cutoff=0.5)
    shared = ""
    if not _is_glob(pattern):
        try:  # an object used in several places is listed once, under its first name
            module = model.get_submodule(pattern)
            near = [name for name, other in modules.items() if other is module]
            shared = "is another name of one shared module; "
        except AttributeError:
            pass
    raise SiteError(
        f"unknown site {pattern!r}; {shared}near names: {near or list(modules)[1:4]}; see module_tree(model)"
    )


def hidden_state(output: Any) -> Tensor | None:
    """The first tensor in a module's output, or None."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = output.values()
    elif not isinstance(output, (tuple, list)):
        return None
    return next((found for item in output if (found := hidden_state(item)) is not None), None)


def replace_hidden_state(output: Any, new: Tensor) -> Any:
    """The same container with its first tensor replaced; the one given is left as it was."""
    if isinstance(output, Tensor):
        return new
    if isinstance(output, Mapping):
        key = next(key for key, item in output.items() if hidden_state(item) is not None)
        copied: Any = copy.copy(output)
        copied[key] = replace_hidden_state(output[key], new)
        return copied
    index = next(i for i, item in enumerate(output) if hidden_state(item) is not None)
    items = [*output[:index], replace_hidden_state(output[index], new), *output[index + 1 :]]
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)  # a namedtuple takes them singly


@contextmanager
def hooked(hooks: Mapping[str, Callable], modules: Mapping[str, nn.Module]) -> Iterator[None]:
    with _removed() as handles:
        for name, hook in hooks.items():
            handles.append(modules[name].register_forward_hook(hook))
        yield


@contextmanager
def pre_hooked(hook: Callable, modules: Iterable[nn.Module]) -> Iterator[None]:
    """`hook` gets each module, its positional and its keyword arguments before the module runs."""
    with _removed() as handles:
        for module in modules:
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield


@contextmanager
def _removed() -> Iterator[list]:
    """A list of handles that are all removed in the end, also when the removing is interrupted: it happens twice."""
    handles: list = []
    try:
        try:
            yield handles
        finally:
            for handle in handles:
                handle.remove()
    finally:
        for handle in handles:
            handle.remove()


def _is_glob(pattern: str) -> bool:
    return any(mark in pattern for mark in "*?[")


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def silent_reason(site: str, module: nn.Module) -> str:
    """Why a site that exists did not fire."""
    reason = "no forward pass ran through it inside the block"
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        reason = f"a {type(module).__name__} is a container that is never called itself; name a module inside it"
    elif isinstance(module, nn.Dropout):
        reason = (
            "fused attention (SDPA) applies dropout itself and never calls this module; eager attention on 4.x does"
        )
    return f"{site!r} did not fire: {reason}"
