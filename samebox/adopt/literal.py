"""The data of a Python config, read from its syntax tree: nothing in it is imported, called or run."""

import ast
import operator
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from samebox.core.errors import SameboxError, one_line

MOST_CHARACTERS = 1 << 20  # of a file; the longest config of MMDetection has some forty thousand
MOST_PARTS = 200_000  # of all values of a file: names used again and again could multiply without end
_LARGEST = 2**63
_MEND = "write its value out, or adopt the config that the checkpoint itself holds"

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_SIGNS: dict[type, Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}


@dataclass(frozen=True)
class Unread:
    """What stands for a value that is no data: where it is, and what. To need it is an error."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.what} at {self.place}"


@dataclass(frozen=True)
class Imported:
    """A name that a file imports. It stands for itself: `type=ResNet` says no more than `type="ResNet"`."""

    name: str


def short(value: Any) -> str:
    """`value` fit for a message."""
    return one_line(value, 250) if isinstance(value, Unread) else one_line(reprlib.repr(value), 80)


def parsed(text: str, file: str) -> ast.Module:
    """The syntax tree of a config. Raises SameboxError for what is not Python, or too much of it."""
    if len(text) > MOST_CHARACTERS:
        raise SameboxError(f"{file}: longer than any config ({len(text)} characters); name the config's file")
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise SameboxError(
            f"{file}:{error.lineno or 1}: not Python ({one_line(error.msg)}); {_MEND}"
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise SameboxError(f"{file}: nested too deeply, or not text; {_MEND}") from None


def expression(text: str, place: str) -> Any:
    """The data of one expression, as YAML configs hold it in their texts.

    It may be a list made by `for x in […]` of a list of numbers, as detectron2 writes anchors. Unread for
    anything else that is no data.
    """
    tree = parsed(text.strip(), place)
    reader = _Reader(place, {}, lambda module, level: {})
    match tree.body:
        case [ast.Expr(value=ast.ListComp(elt=made, generators=[loop]))]:
            items = reader.value(loop.iter)
            if not isinstance(items, list) or not isinstance(loop.target, ast.Name) or loop.ifs:
                return reader.unread(tree.body[0])
            found = []
            for item in items:
                reader.names[loop.target.id] = item
                found.append(reader.value(made))
            return found
        case [ast.Expr(value=value)]:
            return reader.value(value)
    return Unread(place, f"{short(text)}, which is no data")


def names_of(
    tree: ast.Module, file: str, base: Mapping[str, Any], imported: Callable[[str, int], Mapping[str, Any]]
) -> dict[str, Any]:
    """The names that a config binds, with their values; tuples are lists, and what is no data is Unread.

    `base` is what `_base_.name` refers to. `imported(module, level)` gives the names of a config that
    `with read_base():` imports. Raises SameboxError for a statement other than those of a config.
    """
    reader = _Reader(file, base, imported)
    try:
        for statement in tree.body:
            reader.statement(statement)
    except RecursionError:
        raise SameboxError(f"{file}: nested too deeply; {_MEND}") from None
    return reader.names


class _Reader:
    """One file on its way to names."""

    def __init__(
        self, file: str, base: Mapping[str, Any], imported: Callable[[str, int], Mapping[str, Any]]
    ) -> None:
        self.file = file
        self.base = base
        self.imported = imported
        self.names: dict[str, Any] = {}
        self.parts = 0

    def statement(self, node: ast.stmt) -> None:
        """Take in one statement. Raises SameboxError for one that configs do not have."""
        match node:
            case ast.Assign(targets=targets) if all(isinstance(target, ast.Name) for target in targets):
                for target in targets:
                    self.names[ast.unparse(target)] = self.value(node.value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self.names[name] = self.value(value)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) as call):
                self.change(node, name, method, call)
            case ast.Import(names=names) | ast.ImportFrom(level=0, names=names):
                for alias in names:
                    bound = alias.asname or alias.name
                    self.names[bound.partition(".")[0]] = Imported(alias.name.rpartition(".")[2])
            case ast.With(
                items=[ast.withitem(context_expr=ast.Call(func=ast.Name(id="read_base"), args=[]))]
            ):
                self.bases(node.body)
            case ast.If(test=ast.Constant(value="_base_"), orelse=[]):
                self.bases(node.body)
            case _:
                raise self.refused(node)

    def refused(self, node: ast.stmt) -> SameboxError:
        """The error of a statement that would have to be run."""
        what = one_line(ast.unparse(node).partition("\n")[0], 60)
        return SameboxError(
            f"{self.file}:{node.lineno}: {what!r} is no assignment of data, and nothing of a config is run; "
            "write the values out, or adopt the config that the checkpoint itself holds"
        )

    def bases(self, body: list[ast.stmt]) -> None:
        """The relative imports in the body of `with read_base():`, as newer configs have it."""
        for node in body:
            if not isinstance(node, ast.ImportFrom):
                raise self.refused(node)
            found = self.imported(node.module or "", node.level)
            for alias in node.names:
                if alias.name == "*":
                    self.names.update(found)
                elif alias.name in found:
                    self.names[alias.asname or alias.name] = found[alias.name]
                else:
                    raise SameboxError(
                        f"{self.file}:{node.lineno}: {alias.name}: {node.module} has no such name; correct it"
                    )

    def change(self, node: ast.stmt, name: str, method: str, call: ast.Call) -> None:
        """`name.update(…)` and `name.merge(…)`, the two changes that newer configs make to a name."""
        old, new = self.names.get(name), self.arguments(call)
        if method not in ("update", "merge") or not isinstance(old, dict) or not isinstance(new, dict):
            raise self.refused(node)
        self.names[name] = old | new if method == "update" else merged(new, old, f"{self.file}:{node.lineno}")

    def value(self, node: ast.expr) -> Any:
        """The data of an expression."""
        self.count()
        match node:
            case ast.Constant(value=str() as text) if text.startswith("{{"):
                return self.referred(node, text.strip("{} \t").split("."))
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return value
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self.items(node, items)
            case ast.Dict(keys=keys, values=values):
                return self.mapping(node, list(zip(keys, values, strict=True)))
            case ast.Call(func=ast.Name(id="dict")):
                return self.arguments(node)
            case ast.Name(id=name) if name in self.names:
                return self.copied(self.names[name])
            case ast.Set(elts=[ast.Set(elts=[ast.Attribute() as inner])]):
                return self.value(inner)
            case ast.Attribute():
                return self.referred(node, ast.unparse(node).split("."))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _SIGNS:
                return self.computed(node, _SIGNS[type(op)], self.value(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(node, op, self.value(left), self.value(right))
            case ast.Subscript(value=holder, slice=index):
                return self.computed(node, operator.getitem, self.value(holder), self.value(index))
        return self.unread(node)

    def unread(self, node: ast.AST) -> Unread:
        text = one_line(ast.unparse(node).partition("\n")[0], 40)
        return Unread(f"{self.file}:{getattr(node, 'lineno', 1)}", f"{text!r}, which is no data")

    def count(self) -> None:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise SameboxError(f"{self.file}: more values than any config has; {_MEND}")

    def copied(self, value: Any) -> Any:
        """`value` anew, so that what refers to it is a tree, whose size is counted."""
        self.count()
        if isinstance(value, dict):
            return {key: self.copied(item) for key, item in value.items()}
        return [self.copied(item) for item in value] if isinstance(value, list) else value

    def items(self, node: ast.expr, nodes: list[ast.expr]) -> Any:
        """The items of a list, with those of the lists that are unpacked in it."""
        found = []
        for item in nodes:
            if isinstance(item, ast.Starred):
                inner = self.value(item.value)
                if not isinstance(inner, list):
                    return self.unread(node)
                found.extend(inner)
            else:
                found.append(self.value(item))
        return found

    def arguments(self, call: ast.Call) -> Any:
        """The keywords of `dict(…)`, after a single mapping, if any."""
        given: list[tuple[ast.expr | None, ast.expr]] = [(None, argument) for argument in call.args]
        given += [(ast.Constant(word.arg) if word.arg else None, word.value) for word in call.keywords]
        return self.mapping(call, given)

    def mapping(self, node: ast.expr, pairs: list[tuple[ast.expr | None, ast.expr]]) -> Any:
        """A dict of pairs; a value without a key is a mapping, which is unpacked there."""
        found: dict[Any, Any] = {}
        for key, value in pairs:
            read = self.value(value)
            if key is None and isinstance(read, dict):
                found.update(read)
            elif isinstance(key, ast.Constant) and isinstance(key.value, str | int):
                found[key.value] = read
            else:
                return self.unread(node)
        return found

    def referred(self, node: ast.expr, path: list[str]) -> Any:
        """`_base_.a.b`, or an attribute of something imported."""
        if path[0] != "_base_":
            held = self.names.get(path[0])
            return Imported(path[-1]) if isinstance(held, Imported) else self.unread(node)
        found: Any = self.base
        for name in path[1:]:
            if not isinstance(found, Mapping) or name not in found:
                return Unread(f"{self.file}:{node.lineno}", f"{'.'.join(path)}, which no _base_ has")
            found = found[name]
        return self.copied(found)

    def binary(self, node: ast.expr, op: ast.operator, left: Any, right: Any) -> Any:
        """Numbers reckoned with, texts or lists joined."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        joined = isinstance(op, ast.Add) and type(left) is type(right) and isinstance(left, str | list)
        if isinstance(op, ast.Pow) and numbers:
            # as a float first, which overflows where a whole number would grow without end
            return self.computed(
                node, lambda a, b: a**b if abs(float(a) ** b) < _LARGEST else None, left, right
            )
        if type(op) not in _OPERATORS or not (numbers or joined):
            return self.unread(node)
        return self.computed(node, _OPERATORS[type(op)], left, right)

    def computed(self, node: ast.expr, function: Callable[..., Any], *operands: Any) -> Any:
        """What `function` makes of plain values, where they allow it and the result is of a sane size."""
        if any(isinstance(operand, Unread | Imported) for operand in operands):
            return self.unread(node)
        try:
            found = function(*operands)
        except (TypeError, ValueError, ArithmeticError, LookupError):
            return self.unread(node)
        if isinstance(found, str) and len(found) > MOST_CHARACTERS:
            return self.unread(node)
        if isinstance(found, int | float) and not abs(found) < _LARGEST:
            return self.unread(node)
        return self.unread(node) if isinstance(found, complex) else self.copied(found)


def merged(child: Any, base: Any, place: str) -> Any:
    """`child` over `base`, by MMEngine's rules.

    Mappings are merged, key by key; of one with `_delete_=True` nothing is inherited; everything else
    replaces what it finds. Keys such as "0" in a mapping over a list stand for its items. Raises
    SameboxError where a mapping cannot inherit from what stands there.
    """
    if not isinstance(child, dict) or isinstance(base, Unread):
        return child
    fresh = child.get("_delete_") is True
    own = {key: value for key, value in child.items() if key != "_delete_"}
    if fresh or base is _ABSENT:
        return {key: merged(value, _ABSENT, place) for key, value in own.items()}
    if isinstance(base, list) and all(str(key).isdigit() and int(key) < len(base) for key in own):
        items = {int(key): value for key, value in own.items()}
        return [merged(items[i], item, place) if i in items else item for i, item in enumerate(base)]
    if not isinstance(base, dict):
        raise SameboxError(
            f"{place}: {short(child)} cannot inherit from {short(base)}; give it _delete_=True, or correct it"
        )
    return base | {key: merged(value, base.get(key, _ABSENT), place) for key, value in own.items()}


_ABSENT = object()
