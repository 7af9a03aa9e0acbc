"""`record` and `edit`: forward hooks as context managers that leave nothing behind.

A site is a module's own dotted name, as in `model.named_modules()`; a glob matches name part by
name part, so `"encoder.layer.*"` is every layer and none of what is inside one. A module may return
a tensor, a tuple with `None`s, a dict-like ModelOutput or any nesting of them; the *hidden state*
is the first tensor in it.

A block sees the passes of its own thread alone, so that two measurements on one model do not mix.
"""

import difflib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from .inputs import check_model


class SiteError(KeyError):
    """A site that does not exist, did not run, or ran more than once."""

    __str__ = Exception.__str__  # KeyError would show its message quoted


class Stop(Exception):
    """Ends a forward pass whose rest nobody looks at."""


class Trace(Mapping):
    """Site -> its hidden state, in firing order. `.firings[site]` lists every firing.

    `.runs` has each firing as (site, hidden state), in the order in which they came.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.runs: list[tuple[str, Tensor]] = []

    @property
    def firings(self) -> dict[str, list[Tensor]]:
        found: dict[str, list[Tensor]] = {}
        for site, hidden in self.runs:
            found.setdefault(site, []).append(hidden)
        return found

    def full_name(self, site: Any) -> str:
        return site if site in self.firings else f"{self.prefix}.{site}"

    def __getitem__(self, site: str) -> Tensor:
        fired = self.firings.get(self.full_name(site), [])
        if len(fired) == 1:
            return fired[0]
        raise SiteError(
            f"{site!r} fired {len(fired)} times, not once; choose from trace.firings: {list(self)}"
        )

    def __contains__(self, site: object) -> bool:
        return self.full_name(site) in self.firings  # also when it fired twice

    def __iter__(self) -> Iterator[str]:
        return iter(self.firings)

    def __len__(self) -> int:
        return len(self.firings)

    def __repr__(self) -> str:
        return f"Trace of {list(self)}"


@contextmanager
def record(
    model: nn.Module, sites: str | Iterable[str], *, detach: bool = True, stop: bool = False
) -> Iterator[Trace]:
    """Record the hidden state at the given sites while the block runs.

    Yields a mapping from site name to a detached copy of the hidden state, e.g. [1, seq, hidden];
    with `detach=False` to the state itself, through which gradients flow (an
    `edit(model, {"embeddings": torch.Tensor.requires_grad_})` around it makes some in a model with
    frozen weights). With `stop` the pass ends when every site has run once, and so does the block:
    what stands in it behind the model's call is not run. In a model with a head the names may lack
    their first part ("encoder.layer.0" for "bert.encoder.layer.0"), here and when the mapping is
    read.

    Raises `SiteError` (a `KeyError`) for an unknown site and for a name or glob none of whose sites
    ran; `TypeError` for an output without a tensor. Inside an `edit` of the same site the edited
    value is seen, because PyTorch runs hooks in the order of their registration
    (torch.nn.Module.register_forward_hook).

    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2))
    >>> with record(tiny.eval(), "encoder.layer.*") as trace:
    ...     out = tiny(torch.tensor([[1, 2, 3]]))
    >>> list(trace), torch.equal(trace["encoder.layer.1"], out.last_hidden_state)
    (['encoder.layer.0', 'encoder.layer.1'], True)
    """
    wanted = resolve(model, sites)
    trace = Trace(getattr(model, "base_model_prefix", ""))

    def keep(site: str, hidden: Tensor) -> None:
        trace.runs.append((site, hidden.detach().clone() if detach else hidden))
        if stop and len(trace) == len(wanted):
            raise Stop

    with _at_sites(model, dict.fromkeys(names(sites), keep)):
        yield trace


@contextmanager
def edit(
    model: nn.Module, edits: Mapping[str, Callable[[Tensor], Tensor]], *, entering: bool = False
) -> Iterator[None]:
    """Replace the hidden state at each site by a function of it while the block runs.

    It is the one that the site puts out or, `entering`, its first input. `edits` maps a site or
    glob to a function that gets the hidden state, e.g. [1, seq, hidden], and returns one of the
    same shape; the container around it, whatever it is, is rebuilt. Raises `SiteError` for an
    unknown site or one that did not run, `TypeError` for an output without a tensor, `ValueError`
    when the function returns something else than a tensor of the same shape.

    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2))
    >>> with edit(tiny.eval(), {"encoder.layer.1": lambda h: h * 0}):
    ...     tiny(torch.tensor([[1, 2, 3]])).last_hidden_state.abs().sum().item()
    0.0
    """

    def apply(function: Callable[[Tensor], Tensor], site: str, hidden: Tensor) -> Tensor:
        edited = function(hidden)
        if (shape := getattr(edited, "shape", None)) != hidden.shape:
            raise ValueError(
                f"expected the edit of {site!r} to return a tensor {hidden.shape}, got {shape}"
            )
        return edited

    hooks = {pattern: partial(apply, function) for pattern, function in edits.items()}
    with _at_sites(model, hooks, entering):
        yield


def names(sites: str | Iterable[str]) -> list[str]:
    """One name or glob, or several, as a list."""
    found = [sites] if isinstance(sites, str) else list(sites)
    if not found:
        raise ValueError("expected the name of a site, or several, got []; see module_tree(model)")
    return found


def resolve(model: nn.Module, sites: str | Iterable[str]) -> dict[str, nn.Module]:
    """The modules that site names or globs mean, by full name; they may lack the model's prefix."""
    check_model(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    prefix = getattr(model, "base_model_prefix", "")
    found: dict[str, nn.Module] = {}
    for site in names(sites):
        meant = _fitting(modules, site) or _fitting(modules, f"{prefix}.{site}")
        if not meant:
            near = difflib.get_close_matches(site, filter(None, modules), n=3, cutoff=0)
            raise SiteError(f"unknown site {site!r}; near names: {near}; see module_tree(model)")
        found.update(meant)
    return found


def module_name(site: str) -> str:
    """The name of the module whose run is meant, "...layers.0" of "...layers.0[3]"."""
    return site.partition("[")[0]


def tensors(output: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a module's output with its place in it, as "/0" or "/last_hidden_state"."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, (Mapping, tuple, list)):
        for key, item in output.items() if isinstance(output, Mapping) else enumerate(output):
            yield from tensors(item, f"{path}/{key}")


def hidden_state(output: Any) -> Tensor | None:
    """The first tensor in a module's output, or None."""
    return next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)


def replace_hidden_state(output: Any, new: Tensor) -> Any:
    """The same container with its first tensor replaced; the one given is left as it was."""
    leaves, container = tree_flatten(output)
    first = next(i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
    leaves[first] = new
    return tree_unflatten(leaves, container)


@contextmanager
def hooked(
    modules: Mapping[str, nn.Module],
    before: Callable | None = None,
    after: Callable | None = None,
) -> Iterator[None]:
    """Call `before(name, args, kwargs)` and `after(name, args, output)` around modules that run.

    What they return, if not None, replaces (args, kwargs) and the output. Passes of other threads
    are left alone.
    """
    caller = threading.get_ident()

    def mine(hook: Callable, name: str, _module: nn.Module, *passed: Any) -> Any:
        return hook(name, *passed) if threading.get_ident() == caller else None

    with ExitStack() as handles, handles:  # closed twice, in case the closing is interrupted
        enter = handles.enter_context
        for name, module in modules.items():
            if before:
                hook = partial(mine, before, name)
                enter(module.register_forward_pre_hook(hook, with_kwargs=True))
            if after:
                enter(module.register_forward_hook(partial(mine, after, name)))
        yield


@contextmanager
def _at_sites(
    model: nn.Module,
    hooks: Mapping[str, Callable[[str, Tensor], Tensor | None]],
    entering: bool = False,
) -> Iterator[None]:
    """A hook gets the name and the hidden state of each site that runs; it may replace it."""
    found = {pattern: resolve(model, pattern) for pattern in hooks}
    modules: dict[str, nn.Module] = {}
    hook_of = {}
    for pattern, sites in found.items():
        modules.update(sites)
        hook_of.update(dict.fromkeys(sites, hooks[pattern]))
    fired = set()

    def put(site: str, args: tuple, last: Any) -> Any:
        passed = (args, last) if entering else last  # last: the keyword arguments, or the output
        hidden = hidden_state(passed)
        if hidden is None:
            got = type(last).__name__
            raise TypeError(f"expected a tensor at the site {site!r}, got {got} without one")
        fired.add(site)
        new = hook_of[site](site, hidden)
        return None if new is None else replace_hidden_state(passed, new)

    watched = hooked(modules, before=put) if entering else hooked(modules, after=put)
    with watched, suppress(Stop):
        yield
    for pattern, sites in found.items():
        if fired.isdisjoint(sites):
            reason = _silent(next(iter(sites.values())))
            raise SiteError(f"{pattern!r} did not fire: {reason}")


def _fitting(modules: dict[str, nn.Module], pattern: str) -> dict[str, nn.Module]:
    """What a name or glob means; with as many dots, so that a * stands for one part of a name."""
    found = {}
    for name, module in modules.items():
        if name and name.count(".") == pattern.count(".") and fnmatchcase(name, pattern):
            found[name] = module
    return found


def _silent(module: nn.Module) -> str:
    """Why a module that exists did not fire."""
    if isinstance(module, nn.ModuleList):
        return "a ModuleList is a container that is never called itself; name a module inside it"
    if isinstance(module, nn.Dropout):
        return (
            "fused attention (SDPA) applies dropout itself; only eager attention of transformers 4 "
            "calls this module"
        )
    return (
        "nothing ran through it inside the block; a pass in another thread than the block's is not "
        "seen"
    )
