"""Configurations that are wrong are refused at once, with the place, the reason and the remedy; secrets stay secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pycdc.config import InvalidConfig, load, load_text, validate, validate_capture
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline, require_apply, require_capture
from pycdc.errors import ConfigError
from tests.generated_examples import examples

GOOD = """\
name: shop
source:
  postgres:
    dsn: host=db dbname=shop
sink:
  console: {}
"""
SOURCE = "source: {postgres: {dsn: host=db}}\n"
SINK = "sink: {console: {}}\n"
KAFKA = "name: shop\n" + SOURCE + "sink: {kafka: {brokers: 'b:9092', format: json, %s}}\n"


def config(*lines: str) -> str:
    """The smallest good configuration with lines in place of those of the same key."""
    keys = {line.partition(":")[0] for line in lines}
    rest = [line for line in ("name: shop", SOURCE.strip(), SINK.strip()) if line.partition(":")[0] not in keys]
    return "\n".join([*rest, *lines]) + "\n"


BACK = "sink.postgres"


APPLY = "source: {kafka: {brokers: b, topics: [t]}}"
ROUTES = "sink: {postgres: {dsn: x, routes: [{topic: t, table: t}]}}"

TRANSFORM = "transforms: [{function: 'a:b', %s: [t]}]"


def back(unavailable: str) -> str:
    routes = "routes: [{topic: t, table: t}]"
    sink = f"sink: {{postgres: {{dsn: x, {routes}, unavailable: {unavailable}}}}}"
    return config("source: {kafka: {brokers: b, topics: [t]}}", sink)


def postgres(options: str) -> str:
    return config(f"source: {{postgres: {{dsn: host=db, {options}}}}}")


def kafka(options: str) -> str:
    return KAFKA % options


def load_capture(text: str) -> CapturePipeline:
    return require_capture(load_text(text))


BAD = [
    # what is missing
    (config("name:"), "name", "is empty, and must be text", "write one value"),
    ("source: {postgres: {dsn: x}}\nsink: {console: }\n", "name", "is missing", "add `name: …` at the top"),
    ("name: shop\n" + SINK, "source", "is missing", "add `source: …` at the top"),
    ("name: shop\n" + SOURCE, "sink", "is missing", "add `sink: …` at the top"),
    (config("source: {postgres: {}}"), "source.postgres.dsn", "is missing", "add `dsn: …` under source.postgres"),
    (config("sink: {kafka: }"), "sink.kafka.brokers", "is missing", "add `brokers: …` under sink.kafka"),
    (config("offsets: {file: {}}"), "offsets.file.path", "is missing", "under offsets.file"),
    (config("rules: [{hash: [{columns: [a]}]}]"), "rules[0].hash[0].salt", "is missing", "add `salt: …`"),
    (config("rules: [{hash: [{salt: a}]}]"), "rules[0].hash[0].columns", "is missing", "add `columns: […]`"),
    (kafka("registry: {username: u}"), "sink.kafka.registry.url", "is missing", "under sink.kafka.registry"),
    (config("sink: {custom: {}}"), "sink.custom.factory", "is missing", "under sink.custom"),
    # what is too much
    (config("nmae: shop"), "nmae", "is not an option", "did you mean `name`?"),
    (postgres("slto: a"), "source.postgres.slto", "is not an option", "did you mean `slot`?"),
    (postgres("manage-publication: no"), "source.postgres.manage-publication", "is", "`manage_publication`?"),
    (config("source: {postgre: {dsn: x}}"), "source.postgre", "is not an option", "did you mean `postgres`?"),
    (config("brokers: a"), "brokers", "is not an option", "`brokers` belongs under source.kafka or sink.kafka"),
    (postgres("zzz: 1"), "source.postgres.zzz", "is not an option", "remove it, or use one of `dsn`"),
    (config("rules: [{maks: {a: 3}}]"), "rules[0].maks", "is not an option", "did you mean `mask`?"),
    (config("sink: {console: {}, null: {}}"), "sink", "needs exactly one of", "write one of kafka"),
    (config("sink: {}"), "sink", "needs exactly one of", "write one of kafka"),
    (config("offsets: {file: {path: a}, kafka: {}}"), "offsets", "needs exactly one of", "write one of kafka, file"),
    # what belongs to the other direction
    (config("sink: {postgres: {dsn: x}}"), "sink.postgres", "has no meaning where", "from Kafka"),
    (config(APPLY, "sink: {kafka: {}}"), "sink.kafka", "has no meaning where the source is Kafka", "into postgres"),
    (config(APPLY, ROUTES, "rules: []"), "rules", "has no meaning where", "with the rows"),
    (config(APPLY, ROUTES, TRANSFORM % "tables"), "transforms[0].tables", "has no meaning", "by `topics`"),
    (config(TRANSFORM % "topics"), "transforms[0].topics", "has no meaning", "by `tables`"),
    (config("source: {postgres: {dsn: x}, kafka: {}}"), "source", "needs exactly one of", "one of postgres, kafka"),
    (config("source: {}"), "source", "needs exactly one of", "one of postgres, kafka"),
    (config("source: {kafka: }"), "source.kafka.brokers", "is missing", "under source.kafka"),
    (config(APPLY, "sink: {}"), "sink.postgres", "is missing", "add `postgres: …` under sink"),
    (config(APPLY, ROUTES, "nmae: a"), "nmae", "is not an option", "did you mean `name`?"),
    # another type
    (config("source: here"), "source", "must be a section", "write keys under it, indented: `postgres`"),
    (config("name: 123"), "name", "is read as a number, and must be text", "put the value in quotes"),
    (config("name: yes"), "name", "is read as true or false, and must be text", "put the value in quotes"),
    (postgres("tables: public.users"), "source.postgres.tables", "must be a list", "write `[a, b]`"),
    (postgres("tables: [public.a, 7]"), "source.postgres.tables[1]", "is read as a number", "in quotes"),
    (postgres("tables: []"), "source.postgres.tables", "needs at least 1 item", "add an item"),
    (postgres("messages: perhaps"), "source.postgres.messages", "must be true or false", "write true or false"),
    (postgres("max_batch_changes: many"), "source.postgres.max_batch_changes", "must be a whole number", "digits"),
    (config("checkpoint: {interval: 5s}"), "checkpoint.interval", "must be a number", "without a unit"),
    (config("checkpoint: 5"), "checkpoint", "must be a section", "`interval` and `changes`"),
    (config("rules: {tables: a}"), "rules", "must be a list", "one line with `- ` for each item"),
    (config("rules: [{mask: [a]}]"), "rules[0].mask", "must be a section of keys and values", "write `key: value`"),
    (kafka("options: {linger.ms: [5]}"), "sink.kafka.options.linger.ms", "must be text, a number", "one value"),
    (kafka("registry: 5"), "sink.kafka.registry", "must be a URL or a section", "write `registry: http"),
    (config("compatibility: debezum"), "compatibility", "must be one of `honest`, `debezium`", "one of these"),
    (config("values: [1]", "compatibility: debezium"), "values", "must be a section", "write keys under it"),
    # another value
    (postgres("snapshot: initail"), "source.postgres.snapshot", "must be `initial`", "did you mean `initial`?"),
    (postgres("snapshot: zzz"), "source.postgres.snapshot", "must be `initial`, `never`", "write `initial`, `never`"),
    (config("envelope: {skip: [c, x]}"), "envelope.skip[1]", "must be `c`, `u`, `d` or `t`", "write `c`"),
    (config("compatibility: {arrays: nul}"), "compatibility.arrays", "must be `null` or", "did you mean `null`?"),
    (config('name: "a b"'), "name", "has characters that are not allowed", "use letters, digits"),
    (config("name: " + "n" * 64), "name", "has characters that are not allowed, or is too long", "63 at most"),
    (postgres("slot: Shop"), "source.postgres.slot", "is no legal name", "use lower-case letters"),
    (postgres("slot: a-b"), "source.postgres.slot", "is no legal name", "use lower-case letters"),
    (postgres("status_interval: 0"), "source.postgres.status_interval", "must be greater than 0", "greater than 0"),
    (postgres("status_interval: 61"), "source.postgres.status_interval", "must be at most 60", "write 60 or less"),
    (config("http: {port: 65536}"), "http.port", "must be at most 65535", "write 65535 or less"),
    (config("http: {port: -1}"), "http.port", "must be at least 0", "write 0 or more"),
    (config("http: {host: 0.0.0.0, token: '${PYCDC_NOWHERE:-}'}"), "http.token", "is empty, and would let", "set it"),
    (config("signals: {table: 'ops.*'}"), "signals.table", "is not the name of one table", "`schema.table`"),
    (config("signals: {table: a.b.c}"), "signals.table", "is not the name of one table", "`schema.table`"),
    (config("signals: {topic: a}", "sink: {console: {}}"), "", "has a signal topic without brokers", "signals.brokers"),
    (config("http: {host: 0.0.0.0}"), "http", "listens beyond loopback without a token", "add `token: ${"),
    (config("sink: {kafka: {brokers: b}}"), "sink.kafka", "has no registry, which Avro needs", "choose `format: json`"),
    (config("sink: {custom: {factory: my sink}}"), "sink.custom.factory", "is no path", "`package.module:name`"),
    (back("''"), f"{BACK}.unavailable", "needs at least 1 character", "write a value"),
    (back("'hex:6g'"), f"{BACK}.unavailable", "is no `hex:` with bytes behind it", "two hexadecimal digits"),
    # YAML
    ("name: a\n" + GOOD, "name", "stands twice, first in line 1", "remove one of the two"),
    (postgres("slot: a, slot: b"), "source.postgres.slot", "stands twice", "remove one of the two"),
    (config("? [a]\n: b"), "", "has a key that is no text", "begin with { or [ in quotes"),
    # variables
    (config("name: ${PYCDC_NOWHERE}"), "name", "needs the environment variable PYCDC_NOWHERE", "export PYCDC_"),
    (postgres("tables: ['${PYCDC_NOWHERE}']"), "source.postgres.tables[0]", "needs the environment", "or write ${PYC"),
    (config("name: ${PYCDC_NOWHERE"), "name", "has a `${` that is not closed", "`$${` stands for `${`"),
    (config("name: ${not a name}"), "name", "has a `${…}` that is not understood", "write ${NAME}, ${NAME:-default}"),
    (config("name: ${file:/nowhere/at/all}"), "name", "refers to /nowhere/at/all, which cannot be", "create the"),
    (config("name: ${file:/}"), "name", "refers to /, which cannot be read", "correct path and permissions"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "fact", "remedy"), BAD)
def test_a_mistake_is_told_with_its_path_its_reason_and_a_remedy(text: str, path: str, fact: str, remedy: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load_text(text, "shop.yaml")
    assert caught.value.exit_code == 2
    matching = [
        problem for problem in caught.value.problems if f"{problem} ".lstrip().startswith(f"{path} {fact}".lstrip())
    ]
    assert matching, str(caught.value)
    assert any(remedy in problem.remedy for problem in matching), str(caught.value)
    assert str(caught.value).startswith("shop.yaml")


NOT_A_CONFIGURATION = [
    ("", "shop.yaml is empty", "pycdc init"),
    ("# only this\n", "shop.yaml is empty", "pycdc init"),
    ("- name: shop\n", "holds a list where `key: value` is expected", "begin with `name: …`"),
    ("shop\n", "holds one value where `key: value` is expected", "begin with `name: …`"),
    ("name: [\n", "is not YAML, line 2, column 1", "check indentation"),
    ("name: shop\n\tsink: x\n", "is not YAML, line 2, column 1: a tab", "indent with spaces"),
    ("name: shop\n  sink: x\n", "is not YAML, line 2, column 7", "check indentation"),
    ("name: shop\n---\nname: again\n", "is not YAML, line 2, column 1: a second document", "remove what follows"),
    ("name: *star\n", "is not YAML, line 1, column 7: an alias without an anchor", "begin with * in quotes"),
    ("name: !tag x\n", "is not YAML, line 1, column 7: a tag that is not known", "begin with ! in quotes"),
    ("name: a\x07b\n", "is not YAML", "check indentation"),
    ("name: 2024-02-31\n", "holds a date or number that does not exist", "put the value in quotes"),
    ("name: &a [*a]\n", "has an alias that contains itself", "write the value out"),
    ("name: " + "[" * 5000, "is nested too deeply", "remove levels"),
]


@pytest.mark.parametrize(("text", "fact", "hint"), NOT_A_CONFIGURATION)
def test_what_is_no_configuration_at_all_is_told_with_line_and_column(text: str, fact: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "shop.yaml")
    assert fact in caught.value.fact
    assert hint in caught.value.hint


def test_aliases_that_grow_without_bound_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(ConfigError, match="too large"):
        load_text("\n".join(lines))


def test_all_mistakes_are_told_at_once_with_their_lines() -> None:
    text = (
        "name: shop\nname: shop\nsource:\n  postgres:\n    dsn: ${PYCDC_NOWHERE}\n    slto: x\n"
        "sink:\n  kafk: a\n  null:\n"
    )
    with pytest.raises(InvalidConfig) as caught:
        load_text(text, "shop.yaml")
    assert [(problem.line, str(problem).split()[0]) for problem in caught.value.problems] == [
        (2, "name"),
        (5, "source.postgres.dsn"),
        (6, "source.postgres.slto"),
        (8, "sink.kafk"),
    ]
    assert "shop.yaml has 4 errors" in caught.value.fact
    assert "line 8: sink.kafk is not an option\n      try: did you mean `kafka`?" in caught.value.fact


def test_one_mistake_reads_as_one_sentence() -> None:
    with pytest.raises(InvalidConfig) as caught:
        load_text(GOOD + "http:\n  port: x\n", "shop.yaml")
    assert caught.value.fact == "shop.yaml, line 8: http.port must be a whole number"
    assert caught.value.hint == "write digits, without a unit"


def test_a_variable_that_is_missing_is_not_told_a_second_time_as_a_wrong_value() -> None:
    with pytest.raises(InvalidConfig) as caught:
        load_text(GOOD + "http: {port: '${PYCDC_NOWHERE}'}\n")
    assert len(caught.value.problems) == 1


CANARY = "hunter2canary"
LEAKY = [
    config(f"source: {{postgres: {{dsn: [{CANARY}]}}}}"),
    config(f"source: {{postgres: {{dsn: {{{CANARY} 1: x}}}}}}"),
    config(f"source: {{postgres: 'postgresql://u:{CANARY}@h/d'}}"),
    config(f"source: 'postgresql://u:{CANARY}@h/d'"),
    f"name: a\ndsn: *{CANARY}\n",
    f"name: a\ndsn: !{CANARY}\n",
    f'name: a\ndsn: "{CANARY}\n',
    f"name: a\npassword: {CANARY}: b\n",
    f"password {CANARY}\n",
    f"- {CANARY}\n",
    f"postgresql://u:{CANARY}@h/d: x\n",
    config(f"http: {{port: {CANARY}}}"),
    config(f"http: {{host: 0.0.0.0, tokne: {CANARY}}}"),
    config(f"name: {CANARY}:{CANARY}"),
    kafka(f"options: {{sasl.password: [{CANARY}]}}"),
    kafka(f"registry: {{url: 'http://u:{CANARY}@h', pasword: {CANARY}}}"),
    kafka(f"registry: {{url: [{CANARY}]}}"),
    config(f"compatibility: {CANARY}"),
    config(f"rules: [{{hash: [{{columns: {CANARY}, salt: [{CANARY}]}}]}}]"),
    postgres(f"slot: {CANARY.upper()}"),
    postgres(f"snapshot: {CANARY}"),
    config(f"source: {{postgres: {{dsn: 'x${{{CANARY} y}}'}}}}"),
]


@pytest.mark.parametrize("text", LEAKY)
def test_no_error_shows_a_value(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    told = f"{caught.value} {caught.value!r} {caught.value.args} {caught.value.hint}"
    assert CANARY not in told.lower()


def test_no_error_shows_what_a_variable_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCDC_SECRET", CANARY)
    with pytest.raises(ConfigError) as caught:
        load_text(config("http: {port: '${PYCDC_SECRET}', token: '${PYCDC_SECRET}'}", "name: 'a ${PYCDC_SECRET}'"))
    assert CANARY not in f"{caught.value} {caught.value!r}"


def test_a_configuration_does_not_show_its_secrets() -> None:
    sections: dict[str, Any] = {
        "name": "shop",
        "source": {"postgres": {"dsn": f"password={CANARY}"}},
        "sink": {
            "kafka": {
                "brokers": "b",
                "registry": {"url": f"http://u:{CANARY}@r", "password": CANARY},
                "options": {"sasl.password": CANARY, "ssl.key.pem": CANARY, "sasl.oauthbearer.client.secret": CANARY},
            }
        },
        "offsets": {"postgres": {"dsn": f"password={CANARY}"}},
        "rules": [{"hash": [{"columns": ["a"], "salt": CANARY}]}],
        "http": {"token": CANARY},
    }
    loaded = validate_capture(sections)
    custom = validate({**sections, "sink": {"custom": {"factory": "a:b", "options": {"password": CANARY}}}})
    assert CANARY not in f"{loaded!r} {loaded} {custom!r} {custom}"
    assert loaded.sink.kafka is not None
    password = loaded.sink.kafka.options["sasl.password"]
    assert not isinstance(password, str | int | float)
    assert password.get_secret_value() == CANARY


def test_a_good_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert (
        load(path)
        == load(str(path))
        == load(GOOD)
        == load(
            '{"name": "shop",'
            + config().split("\n", 1)[0][:0]
            + ' "source": {"postgres": {"dsn": "host=db dbname=shop"}}, "sink": {"console": {}}}'
        )
    )


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: café".encode("latin-1"))
    for path, fact in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "is a directory"),
        (latin, "not UTF-8 at byte 9"),
    ):
        with pytest.raises(ConfigError, match=fact) as caught:
            load(path)
        assert str(path) in caught.value.fact
        assert caught.value.hint


def test_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("host=db password=a${b}\n")
    monkeypatch.setenv("PYCDC_NAME", "shop")
    monkeypatch.setenv("PYCDC_EMPTY", "")
    monkeypatch.setenv("PYCDC_PORT", "9999")
    loaded = load_capture(
        "name: ${PYCDC_NAME}-${PYCDC_NOWHERE:-a}${PYCDC_EMPTY:-b}\n"
        f"source: {{postgres: {{dsn: '${{file:{secret}}}', tables: ['$${{x}}.${{PYCDC_EMPTY}}y']}}}}\n"
        "sink: {console: {}}\n"
        "http: {port: '${PYCDC_PORT}'}\n"
    )
    assert loaded.name == "shop-ab"
    assert loaded.source.postgres.dsn.get_secret_value() == "host=db password=a${b}"
    assert loaded.source.postgres.tables == ["${x}.y"]
    assert loaded.http.port == 9999


def test_a_mapping_is_taken_literally() -> None:
    loaded = validate_capture(
        {"name": "a", "source": {"postgres": {"dsn": "password=${x}"}}, "sink": {"console": None}}
    )
    assert loaded.source.postgres.dsn.get_secret_value() == "password=${x}"


def test_headings_with_nothing_under_them_are_defaults() -> None:
    text = GOOD.replace("console: {}", "console:") + "http:\nvalues:\ncompatibility:\ncheckpoint:\nretries:\n"
    assert load_text(text) == load_text(GOOD)
    assert load_capture(GOOD.replace("console: {}", "null:")).sink.null is not None


def test_keys_may_come_from_an_anchor() -> None:
    text = GOOD.replace("    dsn: host=db dbname=shop\n", "    <<: &more {dsn: host=db dbname=shop}\n")
    assert load_text(text) == load_text(GOOD)


def test_a_preset_leaves_what_is_written_beside_it() -> None:
    loaded = load_capture(GOOD + "compatibility: debezium\nvalues: {hstore: map}\n")
    assert (loaded.values.unknown_types, loaded.values.hstore) == ("debezium", "map")
    assert loaded.compatibility.unrepresentable == "null"


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_KEYS = st.sampled_from([*CapturePipeline.model_fields, "postgres", "kafka", "dsn", "tables", "options", "x"])
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4))


def test_what_stands_in_the_place_of_something_is_the_only_mistake_told() -> None:
    for wrong in ("source: {postgre: {dsn: x}}", "source: {kafak: {}}"):
        with pytest.raises(InvalidConfig) as caught:
            load_text(config(wrong))
        assert len(caught.value.problems) == 1
    with pytest.raises(InvalidConfig) as caught:
        load_text(config(APPLY, "sink: {console: {}}"))
    assert len(caught.value.problems) == 1


def test_the_direction_of_a_pipeline_is_its_type() -> None:
    assert isinstance(load_text(GOOD), CapturePipeline)
    applies = load_text(config(APPLY, ROUTES))
    assert isinstance(applies, ApplyPipeline)
    with pytest.raises(ConfigError, match="only there for those that read from Postgres"):
        require_capture(applies)
    with pytest.raises(ConfigError, match="does not write into Postgres"):
        require_apply(load_text(GOOD))


@examples(40)
@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_any_yaml_is_loaded_or_refused(data: dict[str, Any]) -> None:
    text = yaml.safe_dump(data, allow_unicode=True)
    try:
        loaded = load_text(text)
    except ConfigError:
        return
    assert loaded.name == data["name"]


def test_a_publication_may_have_any_name_that_postgres_takes() -> None:
    source = {"dsn": "dbname=shop", "publication": 'Shop "all"', "manage_publication": False}
    config = validate_capture({"name": "shop", "source": {"postgres": source}, "sink": {"null": {}}})
    assert config.publication == 'Shop "all"'
    for name in ("", "x" * 64, "a\x00b"):
        with pytest.raises(InvalidConfig, match="no legal name"):
            validate({"name": "shop", "source": {"postgres": {**source, "publication": name}}, "sink": {"null": {}}})


def test_the_table_of_the_positions_is_not_captured_by_the_way_whatever_its_name() -> None:
    def excluded(tables: list[str], **store: str) -> list[str]:
        source = {"postgres": {"dsn": "dbname=shop", "tables": tables}}
        document = {"name": "shop", "source": source, "sink": {"null": {}}, "offsets": {"postgres": store}}
        return validate_capture(document).source.postgres.exclude_tables

    assert excluded(["*"], table="places") == ["public.places"]
    assert excluded(["*"], table="ops.places", dsn="dbname=shop") == ["ops.places"]
    assert excluded(["*"], table="places", dsn="dbname=other") == []
    assert excluded(["*", "public.places"], table="places") == []


@pytest.mark.parametrize("offsets", ["{file: {path: a}}", "{postgres: {}}", "{kafka: {brokers: 'other:9092'}}"])
def test_exactly_once_needs_the_position_in_the_records_cluster(offsets: str) -> None:
    with pytest.raises(InvalidConfig, match="exactly_once") as caught:
        load_text(kafka("delivery: exactly_once") + f"offsets: {offsets}\n")
    assert "remove `offsets`" in str(caught.value)
    for fine in ("{kafka: {topic: places}}", "{kafka: {brokers: 'b:9092'}}"):
        loaded = load_text(kafka("delivery: exactly_once") + f"offsets: {fine}\n")
        assert isinstance(loaded, CapturePipeline)
        assert loaded.exactly_once
