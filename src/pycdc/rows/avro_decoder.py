"""Readers of Avro as generated functions: one for each record of a schema, field by field, without a schema at hand.

Values are those that fastavro gives, but for the types that Kafka Connect or Debezium named: see `connect_values`. With
8 columns, a decimal and a timestamp among them: 4 µs a record, and 13 by fastavro with the conversions after it.

Schemas are strangers': what enters the source is integers that are checked here, `repr` of texts and names that this
file makes. Everything else is an object in the namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final, NoReturn

from pycdc.rows._codegen import compile_function
from pycdc.rows.avro_logical_types import logical
from pycdc.rows.connect_types import NoValue

ReadValue = Callable[[bytes, int], tuple[Any, int]]
"""From bytes and an offset to a value and the offset behind it. Raises anything on bytes of another schema; a value
that ends behind the end of the bytes is cut, so compare the offset with their length."""

_FLOATS: Final = {"float": Struct("<f"), "double": Struct("<d")}
_FEW: Final = 16
"""Branches of a union that are told apart one by one."""
_SIGNED: Final = [(number >> 1) ^ -(number & 1) for number in range(128)]


def compile_reader(schema: Any, fields: Sequence[str] | None = None) -> ReadValue:
    """Compile the reader of a parsed schema.

    With `fields`, which are the first ones of a record, it reads only these, and returns them as a tuple.
    """
    compiler = AvroCompiler()
    target = compiler.function(schema) if fields is None else compiler.beginning(schema, len(fields))
    return compile_function(target, "\n".join(compiler.source) + "\n", compiler.names)


class BadField(ValueError):
    """A field's value is none of its type. The message names the field, and holds nothing of the value."""


def bad_field(name: str, error: Exception) -> NoReturn:
    if isinstance(error, BadField):
        raise error
    detail = str(error) if isinstance(error, NoValue) else type(error).__name__
    raise BadField(f"the value of field {name} is none of its type ({detail})") from None


def negative(name: str) -> NoReturn:
    raise BadField(f"the value of field {name} has a negative length")


def longer(data: bytes, place: int, first: int) -> tuple[int, int]:
    """Read the rest of a variable-length number whose first byte says that there is more."""
    second = data[place]
    if second < 128:
        return first & 127 | second << 7, place + 1
    third = data[place + 1]
    if third < 128:
        return first & 127 | (second & 127) << 7 | third << 14, place + 2
    fourth = data[place + 2]
    number = first & 127 | (second & 127) << 7 | (third & 127) << 14
    if fourth < 128:
        return number | fourth << 21, place + 3
    number |= (fourth & 127) << 21
    shift = 28
    for byte in data[place + 3 : place + 9]:
        if byte < 128:
            return number | byte << shift, place + 4 + (shift - 28) // 7
        number |= (byte & 127) << shift
        shift += 7
    raise ValueError("a number of more than ten bytes")


class AvroCompiler:
    """Lines of source, the names that they use, and the functions of named types, which may refer to themselves."""

    def __init__(self) -> None:
        self.source: list[str] = []
        self.names: dict[str, object] = {"longer": longer, "SIGNED": _SIGNED}
        self.names |= {"bad_field": bad_field, "negative": negative}
        self.names |= {f"{name}_at": form.unpack_from for name, form in _FLOATS.items()}
        self._functions: dict[str, str] = {}
        self._schemas: dict[str, Any] = {}
        self._serial = 0
        self._field = ""
        self._in_blocks = False

    def function(self, schema: Any) -> str:
        """Return the name of a function that reads any schema."""
        name = self._new("read")
        self._define(name, [*self._value(schema, "value"), "return value, p"])
        return name

    def beginning(self, schema: Any, count: int) -> str:
        """Return the name of a function that reads the first fields of a record."""
        name, lines, values = self._new("read"), [], []
        self._functions[schema["name"]], self._schemas[schema["name"]] = name, schema
        for field in schema["fields"][:count]:
            values.append(self._new("f"))
            lines += self._of_field(field, values[-1])
        self._define(name, [*lines, f"return ({', '.join(values)},), p"])
        return name

    def _define(self, name: str, lines: list[str]) -> None:
        self.source += [f"def {name}(d, p):", *("    " + line for line in lines)]

    def _new(self, kind: str) -> str:
        self._serial += 1
        return f"{kind}{self._serial}"

    def _of_field(self, field: Any, target: str) -> list[str]:
        self._field, before = field["name"], self._field
        lines = self._value(field["type"], target)
        self._field = before
        return lines

    def _apart(self, schema: Any, target: str) -> list[str]:
        """Put the reading into a function of its own: Python nests twenty loops, and a hundred blocks."""
        name, before = self._new("read"), self._in_blocks
        self._in_blocks = False
        self._define(name, [*self._value(schema, "value"), "return value, p"])
        self._in_blocks = before
        return [f"{target}, p = {name}(d, p)"]

    def _value(self, schema: Any, target: str) -> list[str]:
        """Lines that read a value into the variable `target`."""
        if isinstance(schema, list):
            return self._union(schema, target)
        if isinstance(schema, str):
            return self._named(schema, target) if schema in self._functions else self._plain(schema, target)
        kind = schema["type"]
        if isinstance(kind, dict | list):
            return [*self._value(kind, target), *self._converted(schema, target)]
        if kind in ("record", "error", "enum", "fixed"):
            return self._defined(schema, target)
        if kind in ("array", "map"):
            if self._in_blocks:
                return self._apart(schema, target)
            return [*self._blocks(schema, target), *self._converted(schema, target)]
        return [*self._plain(kind, target), *self._converted(schema, target)]

    def _converted(self, schema: Any, target: str) -> list[str]:
        convert = logical(schema)
        if convert is None:
            return []
        name = self._new("convert")
        self.names[name] = convert
        return [
            f"try: {target} = {name}({target})",
            f"except Exception as error: bad_field({str(self._field)!r}, error)",
        ]

    def _length(self) -> tuple[str, ...]:
        return *NUMBER, f"if n & 1: negative({str(self._field)!r})"

    def _plain(self, kind: str, target: str) -> list[str]:
        if kind == "null":
            return [f"{target} = None"]
        if kind == "boolean":
            return [f"{target} = d[p] != 0", "p += 1"]
        if kind in ("int", "long"):
            return [
                "n = d[p]",
                "p += 1",
                "if n > 127:",
                "    m = d[p]",
                "    if m > 127: n, p = longer(d, p, n)",
                "    else: n, p = n - 128 + (m << 7), p + 1",
                f"    {target} = (n >> 1) ^ -(n & 1)",
                f"else: {target} = SIGNED[n]",
            ]
        if kind in _FLOATS:
            return [f"{target} = {kind}_at(d, p)[0]", f"p += {_FLOATS[kind].size}"]
        decode = {"string": ".decode()", "bytes": ""}[kind]
        return [*self._length(), "q = p + (n >> 1)", f"{target} = d[p:q]{decode}", "p = q"]

    def _union(self, branches: list[Any], target: str) -> list[str]:
        """Read a union, with the values first and null last: most values are not null."""
        if len(branches) > _FEW:
            return self._dispatched(branches, target)
        lines = ["n = d[p]", "p += 1"]
        word = "if"
        for index, branch in sorted(enumerate(branches), key=lambda each: each[1] == "null"):
            lines += [f"{word} n == {2 * index}:", *("    " + line for line in self._value(branch, target))]
            word = "elif"
        return [*lines, "else: raise ValueError('no such branch')"]

    def _dispatched(self, branches: list[Any], target: str) -> list[str]:
        """By a table of functions: a chain of so many branches is more than Python compiles."""
        table, functions = self._new("table"), [self.function(branch) for branch in branches]
        self.source.append(f"{table} = ({', '.join(functions)},)")
        return [*NUMBER, "if n & 1: raise ValueError('no such branch')", f"{target}, p = {table}[n >> 1](d, p)"]

    def _blocks(self, schema: Any, target: str) -> list[str]:
        """Arrays and maps come in blocks: a count and so many items; a negative count is followed by a size."""
        item, key, left = self._new("v"), self._new("v"), self._new("n")
        is_map = schema["type"] == "map"
        self._in_blocks = True
        read = self._value(schema["values" if is_map else "items"], item)
        self._in_blocks = False
        body = [*self._plain("string", key), *read, f"{target}[{key}] = {item}"] if is_map else read
        body = body if is_map else [*body, f"{target}.append({item})"]
        most = f"{int(schema['most']):d} - len({target})" if "most" in schema else "len(d)"
        return [
            f"{target} = {'{}' if is_map else '[]'}",
            "while True:",
            *("    " + line for line in self._plain("long", left)),
            f"    if {left} == 0: break",
            f"    if {left} < 0:",
            f"        {left} = -{left}",
            *("        " + line for line in NUMBER),
            f"    if {left} > {most}: raise ValueError('more items than bytes')",
            f"    for _ in range({left}):",
            *("        " + line for line in body),
        ]

    def _named(self, name: str, target: str) -> list[str]:
        """Read a named type. The caller converts it, because it knows the field."""
        read = f"{target}, p = {self._functions[name]}(d, p)"
        return [read, *self._converted(self._schemas[name], target)]

    def _defined(self, schema: Any, target: str) -> list[str]:
        """Read a type with a name, which is defined where it first stands."""
        name, before = schema["name"], self._in_blocks
        function = self._functions[name] = self._new("read")
        self._schemas[name] = schema
        self._in_blocks = False
        body = {"enum": self._enum, "fixed": self._fixed}.get(schema["type"], self._record)(schema)
        self._in_blocks = before
        self._define(function, [*body, "return value, p"])
        return self._named(name, target)

    def _enum(self, schema: Any) -> list[str]:
        symbols = self._new("symbols")
        self.names[symbols] = tuple(schema["symbols"])
        return [*NUMBER, "if n & 1: raise ValueError('no such symbol')", f"value = {symbols}[n >> 1]"]

    def _fixed(self, schema: Any) -> list[str]:
        size = schema["size"]
        if type(size) is not int or size < 0:
            raise ValueError("the size of a fixed is no number of bytes")
        return [f"value = d[p:p + {size:d}]", f"p += {size:d}"]

    def _record(self, schema: Any) -> list[str]:
        lines, items = [], []
        for field in schema["fields"]:
            variable = self._new("f")
            lines += self._of_field(field, variable)
            items.append(f"{str(field['name'])!r}: {variable}")
        return [*lines, f"value = {{{', '.join(items)}}}"]


NUMBER: Final = ("n = d[p]", "p += 1", "if n > 127: n, p = longer(d, p, n)")
