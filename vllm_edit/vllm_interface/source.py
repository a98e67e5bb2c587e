"""Finds names of vLLM in its source, without importing it."""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, get_annotations, isfunction, signature
from itertools import chain

from vllm_edit.vllm_interface.symbol import Symbol
from vllm_edit.vllm_interface.version import Release

Read = Callable[[str], str | None]
"""The text of a file by its path, such as vllm/lora/request.py; None if there is no such file."""


_MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class _Definition:
    """A module, or what one of its statements defines."""

    module: str
    node: ast.AST


class Source:
    """The source of one version of vLLM."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._module = cache(self._parse)
        self._assigned = cache(_assigned)

    def missing(self, symbol: Symbol, version: Release) -> Iterator[str]:
        """What of the symbol is not there, by full names: the symbol, or members, or parameters."""
        module = symbol.module_in(version)
        full = f"{module}.{symbol.name}".rstrip(".")
        found = self._find(module, symbol.name)
        if found is None:
            yield full
            return
        for name, parameters in _used(symbol.uses):
            node = found.node if name == "__call__" else self._member(found, name)
            where = full if name == "__call__" else f"{full}.{name}"
            if node is None:
                yield where
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from (f"{where}({p}=)" for p in parameters if not _accepts(node, p))

    def _parse(self, module: str) -> _Definition | None:
        stem = module.replace(".", "/")
        for path in (f"{stem}/__init__.py", f"{stem}.py"):
            text = self._read(path)
            if text is not None:
                package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
                return _Definition(package, ast.parse(text))
        return None

    def _find(self, module: str, name: str) -> _Definition | None:
        """The definition of a name that is defined in a module, or imported there from vLLM."""
        source = self._module(module)
        if source is None or not name:
            return source and _Definition(module, source.node)
        for statement in _statements(source.node):
            if name in _defined(statement):
                return _Definition(module, statement)
            if isinstance(statement, ast.ImportFrom):
                origin = _origin(statement, source.module)
                for alias in statement.names:
                    if (alias.asname or alias.name) == name and origin.startswith("vllm"):
                        return self._find(origin, alias.name)
        return self._find(f"{module}.{name}", "")

    def _member(self, owner: _Definition, name: str) -> ast.AST | None:
        """What a module, a class or one of its bases defines; or what a function assigns to."""
        if isinstance(owner.node, ast.Module | ast.ClassDef):
            for statement in _statements(owner.node):
                if name in _defined(statement):
                    return statement
        if isinstance(owner.node, ast.ClassDef):
            for base in owner.node.bases:
                definition = isinstance(base, ast.Name) and self._find(owner.module, base.id)
                if definition and (member := self._member(definition, name)):
                    return member
        return self._assigned(owner.node).get(name)


def _used(uses: type | None) -> Iterator[tuple[str, Iterable[str]]]:
    """The members that a Protocol names, each with its parameters if it is a method."""
    if uses is None:
        return
    yield from ((name, ()) for name in get_annotations(uses))
    for name, member in vars(uses).items():
        if isfunction(member) and (name == "__call__" or not name.startswith("_")):
            parameters = signature(member).parameters.values()
            yield name, [p.name for p in parameters if p.name != "self" and p.kind not in _MANY]


def _accepts(function: ast.FunctionDef | ast.AsyncFunctionDef, parameter: str) -> bool:
    arguments = function.args
    named = chain(arguments.posonlyargs, arguments.args, arguments.kwonlyargs)
    return arguments.kwarg is not None or any(a.arg == parameter for a in named)


def _assigned(node: ast.AST) -> Mapping[str, ast.AST]:
    """The attributes that a class, in its methods, or a function assigns to, of any object."""
    return {
        child.attr: child
        for child in ast.walk(node)
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store)
    }


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a module, those in its branches too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _statements(child)
        elif isinstance(child, ast.stmt):
            yield child


def _defined(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _origin(statement: ast.ImportFrom, package: str) -> str:
    """The full name of the module that a statement in a module of this package imports from."""
    if not statement.level:
        return statement.module or ""
    parents = package.split(".")
    base = parents[: len(parents) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])
