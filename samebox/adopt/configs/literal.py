"""The data of a Python config, read from its syntax tree: nothing in it is imported, called or run."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from samebox.adopt.configs.budget import MAX_CHARACTERS, Budget
from samebox.adopt.configs.merge import merge
from samebox.adopt.configs.values import ImportedName, UnreadValue, short_repr
from samebox.core.errors import SameboxError
from samebox.core.text import one_line

_MAX_NUMBER = 2**63
_MAX_SOURCE = 1 << 20  # characters of expressions that are written out for messages, in one file
_HINT = "write the values out, or adopt the config stored in the checkpoint"

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

# (module, level) of a relative import → the names of that config
ImportConfig = Callable[[str, int], Mapping[str, Any]]


def parse(text: str, file: str, budget: Budget | None = None) -> ast.Module:
    """The syntax tree of a config.

    Raises SameboxError if it is not Python, exceeds the budget, or has an integer of over 64 bits.
    """
    (budget or Budget()).spend_characters(len(text), file)
    try:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value >= _MAX_NUMBER:
                raise SameboxError(f"{file}:{node.lineno}: a number of over 64 bits; correct it")
        return tree
    except SyntaxError as error:
        raise SameboxError(
            f"{file}:{error.lineno or 1}: not Python ({one_line(error.msg)}); {_HINT}"
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise SameboxError(f"{file}: nested too deeply, or not text; {_HINT}") from None


def read_expression(text: str, place: str, budget: Budget | None = None) -> Any:
    """The data of one expression, which YAML configs hold as text.

    It may be a comprehension `for x in […]` over a list, as detectron2 writes anchors. An expression that is
    not plain data gives an UnreadValue. Raises SameboxError if `text` is not Python.
    """
    budget = budget or Budget()
    tree = parse(text.strip(), place, budget)
    reader = _Reader(place, {}, lambda module, level: {}, budget)
    match tree.body:
        case [ast.Expr(value=ast.ListComp(elt=element, generators=[loop]))]:
            items = reader.value(loop.iter)
            if not isinstance(items, list) or not isinstance(loop.target, ast.Name) or loop.ifs:
                return reader.unread(tree.body[0])
            elements = []
            for item in items:
                reader.names[loop.target.id] = item
                elements.append(reader.value(element))
            return elements
        case [ast.Expr(value=value)]:
            return reader.value(value)
    return UnreadValue(place, short_repr(text))


def read_assignments(
    tree: ast.Module,
    file: str,
    base: Mapping[str, Any],
    import_config: ImportConfig,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """The names that a config assigns, with their values.

    Tuples become lists; a value that is not plain data becomes an UnreadValue. `base` holds the names that
    `_base_.name` refers to. `import_config` gives the names of a config that `with read_base():` imports.
    Raises SameboxError for a statement that would have to be run.
    """
    reader = _Reader(file, base, import_config, budget or Budget())
    try:
        for statement in tree.body:
            reader.read_statement(statement)
    except RecursionError:
        raise SameboxError(f"{file}: nested too deeply; {_HINT}") from None
    return reader.names


class _Reader:
    """Reads the statements of one file, in order, into `names`."""

    def __init__(
        self, file: str, base: Mapping[str, Any], import_config: ImportConfig, budget: Budget
    ) -> None:
        self.file = file
        self.base = base
        self.import_config = import_config
        self.names: dict[str, Any] = {}
        self.budget = budget
        self.source_count = 0

    def read_statement(self, node: ast.stmt) -> None:
        """Read one statement. Raises SameboxError for a statement that configs do not have."""
        match node:
            case ast.Assign(targets=targets) if all(isinstance(target, ast.Name) for target in targets):
                for target in targets:
                    self.names[ast.unparse(target)] = self.value(node.value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self.names[name] = self.value(value)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) as call):
                self.update_name(node, name, method, call)
            case ast.Import(names=names) | ast.ImportFrom(level=0, names=names):
                for alias in names:
                    bound = alias.asname or alias.name
                    self.names[bound.partition(".")[0]] = ImportedName(alias.name.rpartition(".")[2])
            case ast.With(
                items=[ast.withitem(context_expr=ast.Call(func=ast.Name(id="read_base"), args=[]))]
            ):
                self.import_bases(node.body)
            case ast.If(test=ast.Constant(value="_base_"), orelse=[]):
                self.import_bases(node.body)
            case _:
                raise self.statement_error(node)

    def statement_error(self, node: ast.stmt) -> SameboxError:
        """The error for a statement that would have to be run."""
        statement = one_line(ast.unparse(node).partition("\n")[0], 60)
        return SameboxError(
            f"{self.file}:{node.lineno}: {statement!r} does not assign plain data, and configs are not run; "
            f"{_HINT}"
        )

    def import_bases(self, body: list[ast.stmt]) -> None:
        """Read the relative imports below `with read_base():`, which MMEngine's newer configs use."""
        for node in body:
            if not isinstance(node, ast.ImportFrom):
                raise self.statement_error(node)
            base = self.import_config(node.module or "", node.level)
            for alias in node.names:
                if alias.name == "*":
                    self.names.update(base)
                elif alias.name in base:
                    self.names[alias.asname or alias.name] = base[alias.name]
                else:
                    raise SameboxError(
                        f"{self.file}:{node.lineno}: {node.module} has no name {alias.name}; "
                        "correct the import"
                    )

    def update_name(self, node: ast.stmt, name: str, method: str, call: ast.Call) -> None:
        """Apply `name.update(…)` or `name.merge(…)`, the two calls that newer configs make."""
        old, new = self.names.get(name), self.keywords(call)
        if method not in ("update", "merge") or not isinstance(old, dict) or not isinstance(new, dict):
            raise self.statement_error(node)
        self.names[name] = old | new if method == "update" else merge(new, old, f"{self.file}:{node.lineno}")

    def value(self, node: ast.expr) -> Any:
        """The data of an expression, or an UnreadValue."""
        self.budget.spend_value(None, self.file)
        match node:
            case ast.Constant(value=str() as text) if text.startswith("{{"):
                return self.reference(node, text.strip("{} \t").split("."))
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return value
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self.items(node, items)
            case ast.Dict(keys=keys, values=values):
                return self.mapping(node, list(zip(keys, values, strict=True)))
            case ast.Call(func=ast.Name(id="dict")):
                return self.keywords(node)
            case ast.Name(id=name) if name in self.names:
                return self.copy(self.names[name])
            case ast.Set(elts=[ast.Set(elts=[ast.Attribute() as inner])]):  # {{_base_.name}}
                return self.value(inner)
            case ast.Attribute():
                return self.reference(node, ast.unparse(node).split("."))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _SIGNS:
                return self.apply(node, _SIGNS[type(op)], self.value(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary_operation(node, op, self.value(left), self.value(right))
            case ast.Subscript(value=container, slice=index):
                return self.apply(node, operator.getitem, self.value(container), self.value(index))
        return self.unread(node)

    def unread(self, node: ast.AST) -> UnreadValue:
        """The UnreadValue of an expression that is not plain data."""
        text = ast.unparse(node) if self.source_count < _MAX_SOURCE else "…"  # each level writes all below it
        self.source_count += len(text)
        text = one_line(text.partition("\n")[0], 40)
        return UnreadValue(f"{self.file}:{getattr(node, 'lineno', 1)}", repr(text))

    def copy(self, value: Any) -> Any:
        """A copy of `value`, whose parts are counted again: the result is a tree of bounded size."""
        self.budget.spend_value(value, self.file)
        if isinstance(value, dict):
            return {key: self.copy(item) for key, item in value.items()}
        return [self.copy(item) for item in value] if isinstance(value, list) else value

    def items(self, node: ast.expr, nodes: list[ast.expr]) -> Any:
        """The items of a list; `*other` adds the items of another list."""
        items = []
        for item in nodes:
            if isinstance(item, ast.Starred):
                unpacked = self.value(item.value)
                if not isinstance(unpacked, list):
                    return self.unread(node)
                items.extend(unpacked)
            else:
                items.append(self.value(item))
        return items

    def keywords(self, call: ast.Call) -> Any:
        """The keywords of `dict(…)`; positional mappings come first."""
        pairs: list[tuple[ast.expr | None, ast.expr]] = [(None, argument) for argument in call.args]
        pairs += [(ast.Constant(word.arg) if word.arg else None, word.value) for word in call.keywords]
        return self.mapping(call, pairs)

    def mapping(self, node: ast.expr, pairs: list[tuple[ast.expr | None, ast.expr]]) -> Any:
        """The dict of `pairs`; the value of a pair without a key must be a mapping, which is unpacked."""
        mapping: dict[Any, Any] = {}
        for key, value_node in pairs:
            value = self.value(value_node)
            if key is None and isinstance(value, dict):
                mapping.update(value)
            elif isinstance(key, ast.Constant) and isinstance(key.value, str | int):
                mapping[key.value] = value
            else:
                return self.unread(node)
        return mapping

    def reference(self, node: ast.expr, path: list[str]) -> Any:
        """The value of `_base_.a.b`, or the name of an attribute of an imported module."""
        if path[0] != "_base_":
            imported = isinstance(self.names.get(path[0]), ImportedName)
            return ImportedName(path[-1]) if imported else self.unread(node)
        value: Any = self.base
        for name in path[1:]:
            if not isinstance(value, Mapping) or name not in value:
                return UnreadValue(f"{self.file}:{node.lineno}", ".".join(path), "not in a _base_ file")
            value = value[name]
        return self.copy(value)

    def binary_operation(self, node: ast.expr, op: ast.operator, left: Any, right: Any) -> Any:
        """The result of arithmetic on two numbers, or of joining two texts or two lists."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        joined = isinstance(op, ast.Add) and type(left) is type(right) and isinstance(left, str | list)
        if isinstance(op, ast.Pow) and numbers:
            # First as a float, which overflows; an integer power would use unlimited memory.
            return self.apply(
                node, lambda a, b: a**b if abs(float(a) ** b) < _MAX_NUMBER else None, left, right
            )
        if type(op) not in _OPERATORS or not (numbers or joined):
            return self.unread(node)
        return self.apply(node, _OPERATORS[type(op)], left, right)

    def apply(self, node: ast.expr, function: Callable[..., Any], *operands: Any) -> Any:
        """`function` of plain values; an UnreadValue if it fails or its result is too large."""
        if any(isinstance(operand, UnreadValue | ImportedName) for operand in operands):
            return self.unread(node)
        try:
            result = function(*operands)
        except (TypeError, ValueError, ArithmeticError, LookupError):
            return self.unread(node)
        if isinstance(result, str) and len(result) > MAX_CHARACTERS:
            return self.unread(node)
        if isinstance(result, int | float) and not abs(result) < _MAX_NUMBER:
            return self.unread(node)
        return self.unread(node) if isinstance(result, complex) else self.copy(result)
