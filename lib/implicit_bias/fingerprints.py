"""What a function is, as far as it can be told from outside: so that a changed one is noticed.

Results that are kept beside results of another function are worse than none. A function is what
its text says, and what the names in it stand for: its defaults, the variables of the module or
notebook around it, and the functions and classes defined there, which are looked into in turn.
What it imports is taken by name only: a new version of a library is not noticed. Other objects are
taken apart as ``copy`` and ``pickle`` would; of those that refuse it, a lock say, only the type is
known.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import dis
import functools
import hashlib
import inspect
import linecache
import os
import textwrap
import types
from importlib.machinery import SourceFileLoader
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["fingerprint"]

_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, PurePath)


def fingerprint(function: Any) -> dict[str, str]:
    """Returns a checksum for the function, and one for each thing around it that it uses.

    Comments, docstrings and the layout of the text do not count.

    Parameters
    ----------
    function : callable
        A function with a name, whose text can be found: one in a file or a notebook. Or
        ``functools.partial`` of one.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If its text is not to be found, or its file was edited after it had been imported.

    Examples
    --------
    >>> def double(x):
    ...     return FACTOR * x
    >>> FACTOR = 2
    >>> sorted(fingerprint(double))
    ['FACTOR', 'double']
    """
    bound = []
    while isinstance(function, functools.partial):
        bound.append((function.args, function.keywords))
        function = function.func
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        raise TypeError(
            f"{function!r} is not a function with a name: what it does could not be compared with "
            f"what it did. Write it with def, in a file or a notebook."
        )
    reader = _Reader(function.__module__)
    for arguments in bound:
        reader.add("what partial binds", reader.text(arguments))
    reader.function(_defined_in(function.__module__, function) or inspect.unwrap(function))
    return {k: hashlib.sha256(v.encode()).hexdigest()[:16] for k, v in reader.parts.items()}


def _defined_in(home: str, value: Any) -> types.FunctionType | None:
    """The function, or the first one that it wraps, that this module defines."""
    while not (inspect.isfunction(value) and value.__globals__.get("__name__") == home):
        value = getattr(value, "__dict__", {}).get("__wrapped__")
        if value is None:
            return None
    return value


@functools.lru_cache(maxsize=8)
def _codes(text: str) -> frozenset[types.CodeType]:
    """What the functions in a file compile to."""
    found, waiting = set(), [compile(text, "<text>", "exec", dont_inherit=True)]
    while waiting:
        inner = [c for c in waiting.pop().co_consts if isinstance(c, types.CodeType)]
        found.update(inner)
        waiting.extend(inner)
    return frozenset(found)


def _is_stale(function: types.FunctionType) -> bool:
    """Whether the file says something else by now than what was imported from it."""
    code, loader = function.__code__, function.__globals__.get("__loader__")
    # What other loaders make of a file, pytest's say, is not what it compiles to.
    if type(loader) is not SourceFileLoader or not os.path.isfile(code.co_filename):
        return False
    linecache.checkcache(code.co_filename)
    try:
        return code not in _codes("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:
        return True


def _text(function: types.FunctionType) -> str:
    if _is_stale(function):
        raise ValueError(
            f"{function.__code__.co_filename} was edited after {function.__qualname__} had been "
            f"imported from it, so what would run is not what it says now. Reload the module, or "
            f"begin a new process."
        )
    try:
        # The text of the code: of a function that wraps another, inspect gives the other's.
        tree = ast.parse(textwrap.dedent(inspect.getsource(function.__code__)))
    except (OSError, TypeError, SyntaxError) as error:
        raise ValueError(
            f"The text of {function.__qualname__} is not to be found ({error}), so a change in it "
            f"would go unnoticed. Define it in a file or a notebook."
        ) from error
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _globals(code: types.CodeType) -> set[str]:
    """The names that the code, and code within it, looks up outside."""
    outside = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")  # the latter in classes
    names = {i.argval for i in dis.get_instructions(code) if i.opname in outside}
    names.discard("__name__")  # of which every class makes its __module__
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return names.union(*(_globals(c) for c in inner))


def _bytecode(code: types.CodeType) -> str:
    inner = [
        _bytecode(c)
        if isinstance(c, types.CodeType)
        else repr(sorted(map(repr, c)) if isinstance(c, frozenset) else c)
        for c in code.co_consts
    ]
    return f"{code.co_code.hex()} {inner} {code.co_names}"


def _is_plain_builtin(value: Any) -> bool:
    """Whether it is a function in C, and no method of an object that holds something."""
    return inspect.isbuiltin(value) and isinstance(
        value.__self__, (types.ModuleType, type, types.NoneType)
    )


class _Reader:
    """What was read so far. Nothing in it is an address, which differs from run to run."""

    def __init__(self, home: str) -> None:
        self.home = home  # the module of the function
        self.parts: dict[str, str] = {}
        self.seen: dict[int, Any] = {}  # by address: kept, so that no other takes its place
        self.seen_names: set[str] = set()
        self.busy: set[int] = set()
        self.apart: dict[int, tuple[Any, str]] = {}  # objects that were taken apart

    def add(self, name: str, text: str) -> None:
        """Two things of one name, from two closures say, both count."""
        while name in self.parts:
            name += "'"
        self.parts[name] = text

    def function(self, function: types.FunctionType) -> None:
        if id(function) in self.seen:
            return
        self.seen[id(function)] = function
        name, code = function.__qualname__, function.__code__
        self.add(name, _bytecode(code) if function.__name__ == "<lambda>" else _text(function))
        defaults = (function.__defaults__, function.__kwdefaults__)
        if defaults != (None, None):
            self.add(f"defaults of {name}", self.text(defaults))
        for key in sorted(_globals(code) & function.__globals__.keys()):
            self.thing(key, function.__globals__[key], once=True)
        for key, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # an empty cell: not there yet
                self.thing(key, cell.cell_contents)

    def kind(self, kind: type) -> None:
        """Reads the members of a class: in a notebook its text is not to be found, theirs is."""
        if id(kind) in self.seen:
            return
        self.seen[id(kind)] = kind
        self.add(kind.__qualname__, str([base.__qualname__ for base in kind.__mro__]))
        for base in kind.__mro__[1:]:
            if base.__module__ == self.home:
                self.kind(base)
        for key, member in vars(kind).items():
            member = getattr(member, "__func__", getattr(member, "fget", member))
            own = _defined_in(self.home, member)
            if own is not None:
                # Those that dataclass writes have no text, and say no more than the fields.
                if own.__code__.co_filename != "<string>":
                    self.function(own)
            elif key == "__annotations__" or not key.startswith("__"):
                self.thing(f"{kind.__qualname__}.{key}", member)

    def thing(self, name: str, value: Any, once: bool = False) -> None:
        own = _defined_in(self.home, value)
        if own is not None:
            self.function(own)
        elif inspect.isclass(value) and value.__module__ == self.home:
            self.kind(value)
        elif not (once and f"{self.home}.{name}" in self.seen_names):
            self.seen_names.add(f"{self.home}.{name}")
            self.add(name, self.text(value))

    def text(self, value: Any) -> str:
        """What can be compared of a value."""
        if value is None or isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, np.generic):
            return f"{value.dtype} {value.item()!r}"
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        if isinstance(value, Tensor) and value.layout == torch.strided:
            flat = value.detach().cpu().resolve_conj().resolve_neg().reshape(-1)
            raw = hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
            return f"{value.dtype} {tuple(value.shape)} {raw}"
        if isinstance(value, types.ModuleType):
            return value.__name__
        own = _defined_in(self.home, value)
        if own is not None:
            self.function(own)
            return self.named(own)
        if inspect.isclass(value) and value.__module__ == self.home:
            self.kind(value)
        if inspect.isfunction(value) or inspect.isclass(value) or _is_plain_builtin(value):
            return self.named(value)
        kind = self.named(type(value))
        if id(value) in self.busy:  # it holds itself
            return kind
        self.busy.add(id(value))
        try:
            return f"{kind} {self.inner(value)}"
        finally:
            self.busy.remove(id(value))

    def named(self, thing: Any) -> str:
        # A notebook's own module is called __main__, and the same file elsewhere otherwise.
        own = thing.__module__ == self.home
        return str(thing.__qualname__) if own else f"{thing.__module__}.{thing.__qualname__}"

    def inner(self, value: Any) -> str:
        if type(value).__module__ == self.home:
            self.kind(type(value))
        if isinstance(value, (dict, types.MappingProxyType)):
            items = [f"{self.text(k)}: {self.text(v)}" for k, v in value.items()]
            return f"{{{', '.join(items)}}}"
        if isinstance(value, (set, frozenset)):
            return f"{{{', '.join(sorted(self.text(v) for v in value))}}}"
        if isinstance(value, (list, tuple, range)):
            return f"[{', '.join(self.text(v) for v in value)}]"
        if dataclasses.is_dataclass(value):
            return self.text({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
        if id(value) not in self.apart:
            try:
                parts = value.__reduce_ex__(4)
            except Exception:  # whatever a class may raise that is not to be copied
                parts = ""
            if isinstance(parts, tuple):  # the last two are iterators, of entries and items
                parts = (*parts[:3], *(list(p) for p in parts[3:5] if p is not None))
            text = hashlib.sha256(self.text(parts).encode()).hexdigest() if parts else ""
            self.apart[id(value)] = value, text
        return self.apart[id(value)][1]
