"""Readers of Avro as generated functions: one for each record of a schema, field by field, without a schema at hand.

Values are those that fastavro gives, but for the types that Kafka Connect or Debezium named: see `connect_values`. With
8 columns, a decimal and a timestamp among them: 4 µs a record, and 13 by fastavro with the conversions after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from struct import Struct
from typing import Any, Final

from fastavro.read import LOGICAL_READERS

from pycdc.connectors.kafka.connect_values import conversion
from pycdc.rows._codegen import compile_function

Read = Callable[[bytes, int], tuple[Any, int]]
"""From bytes and an offset to a value and the offset behind it. Raises anything on bytes of another schema; a value
that ends behind the end of the bytes is cut, so compare the offset with their length."""

_DECIMALS: Final = Context(prec=200_000)
_FLOATS: Final = {"float": Struct("<f"), "double": Struct("<d")}
_SIGNED: Final = [(number >> 1) ^ -(number & 1) for number in range(128)]


def compile_reader(schema: Any, fields: Sequence[str] | None = None) -> Read:
    """The reader of a parsed schema. With `fields`, which are the first ones of a record, only these, as a tuple."""
    compiler = AvroCompiler()
    target = compiler.function(schema) if fields is None else compiler.beginning(schema, len(fields))
    return compile_function(target, "\n".join(compiler.source) + "\n", compiler.names)


def longer(data: bytes, place: int, first: int) -> tuple[int, int]:
    """The rest of a variable-length number whose first byte says that there is more."""
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
        self.names |= {f"{name}_at": form.unpack_from for name, form in _FLOATS.items()}
        self._functions: dict[str, str] = {}
        self._serial = 0

    def function(self, schema: Any) -> str:
        """The name of a function for any schema."""
        name = self._new("read")
        self._define(name, [*self._value(schema, "value"), "return value, p"])
        return name

    def beginning(self, schema: Any, count: int) -> str:
        """The name of a function for the first fields of a record."""
        name, lines, values = self._new("read"), [], []
        self._functions[schema["name"]] = name
        for field in schema["fields"][:count]:
            values.append(self._new("f"))
            lines += self._value(field["type"], values[-1])
        self._define(name, [*lines, f"return ({', '.join(values)},), p"])
        return name

    def _define(self, name: str, lines: list[str]) -> None:
        self.source += [f"def {name}(d, p):", *("    " + line for line in lines)]

    def _new(self, kind: str) -> str:
        self._serial += 1
        return f"{kind}{self._serial}"

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
            return [*self._blocks(schema, target), *self._converted(schema, target)]
        return [*self._plain(kind, target), *self._converted(schema, target)]

    def _converted(self, schema: Any, target: str) -> list[str]:
        convert = logical(schema)
        if convert is None:
            return []
        name = self._new("convert")
        self.names[name] = convert
        return [f"{target} = {name}({target})"]

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
        return [*NUMBER, "q = p + (n >> 1)", f"{target} = d[p:q]{decode}", "p = q"]

    def _union(self, branches: list[Any], target: str) -> list[str]:
        """The values first, and null last: most values are not null."""
        lines = ["n = d[p]", "p += 1"] if len(branches) < 64 else list(NUMBER)
        word = "if"
        for index, branch in sorted(enumerate(branches), key=lambda each: each[1] == "null"):
            lines += [f"{word} n == {2 * index}:", *("    " + line for line in self._value(branch, target))]
            word = "elif"
        return [*lines, "else: raise ValueError('no such branch')"]

    def _blocks(self, schema: Any, target: str) -> list[str]:
        """Arrays and maps come in blocks: a count and so many items; a negative count is followed by a size."""
        item, key, left = self._new("v"), self._new("v"), self._new("n")
        is_map = schema["type"] == "map"
        read = self._value(schema["values" if is_map else "items"], item)
        body = [*self._plain("string", key), *read, f"{target}[{key}] = {item}"] if is_map else read
        body = body if is_map else [*body, f"{target}.append({item})"]
        return [
            f"{target} = {'{}' if is_map else '[]'}",
            "while True:",
            *("    " + line for line in self._plain("long", left)),
            f"    if {left} == 0: break",
            f"    if {left} < 0:",
            f"        {left} = -{left}",
            *("        " + line for line in NUMBER),
            f"    if {left} > len(d): raise ValueError('more items than bytes')",
            f"    for _ in range({left}):",
            *("        " + line for line in body),
        ]

    def _named(self, name: str, target: str) -> list[str]:
        return [f"{target}, p = {self._functions[name]}(d, p)"]

    def _defined(self, schema: Any, target: str) -> list[str]:
        """A type with a name, which is defined where it first stands."""
        name = schema["name"]
        function = self._functions[name] = self._new("read")
        body = {"enum": self._enum, "fixed": self._fixed}.get(schema["type"], self._record)(schema)
        self._define(function, [*body, *self._converted(schema, "value"), "return value, p"])
        return self._named(name, target)

    def _enum(self, schema: Any) -> list[str]:
        symbols = self._new("symbols")
        self.names[symbols] = tuple(schema["symbols"])
        return [*NUMBER, f"value = {symbols}[n >> 1]"]

    def _fixed(self, schema: Any) -> list[str]:
        return [f"value = d[p:p + {schema['size']}]", f"p += {schema['size']}"]

    def _record(self, schema: Any) -> list[str]:
        lines, items = [], []
        for field in schema["fields"]:
            variable = self._new("f")
            lines += self._value(field["type"], variable)
            items.append(f"{field['name']!r}: {variable}")
        return [*lines, f"value = {{{', '.join(items)}}}"]


NUMBER: Final = ("n = d[p]", "p += 1", "if n > 127: n, p = longer(d, p, n)")


def logical(schema: dict[str, Any]) -> Callable[[Any], Any] | None:
    """What becomes of a value of a logical type, or of one that Kafka Connect or Debezium named."""
    logical = schema.get("logicalType")
    if logical == "decimal":
        scale = -int(schema.get("scale", 0))
        scaled, from_bytes = _DECIMALS.scaleb, int.from_bytes
        return lambda value: scaled(Decimal(from_bytes(value, "big", signed=True)), scale)
    if logical:
        read = LOGICAL_READERS.get(f"{schema['type']}-{logical}")
        return None if read is None else lambda value: read(value, schema, None)
    return conversion(schema.get("connect.name"), schema.get("connect.parameters") or {})
