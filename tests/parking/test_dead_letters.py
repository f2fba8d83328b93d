"""Rows whose schema the registry refuses are copied to their topics by `pycdc parked`, once, and in their order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

from pycdc.cli import main
from tests.parking.parked import Rig
from tests.running import Running
from tests.services.registry import RegistryAddress

pytestmark = pytest.mark.pg("newest")


class RefusingRig:
    """A table whose second version the registry refuses."""

    def __init__(self, rig: Rig, registry: RegistryAddress, folder: Path) -> None:
        self.rig = rig
        self.topic = f"{rig.name}.public.items"
        self._config = str(folder / "pipeline.json")
        self.client = SchemaRegistryClient({"url": registry.url})
        settings = {"format": "avro", "registry": {"url": registry.url, "on_incompatible": "park"}}
        self.document = rig.document(kafka=settings, rules=[])

    def refuse(self, pipeline: Running) -> None:
        """Let the first version come, and no other one."""
        self.rig.execute("INSERT INTO items VALUES (1, 1)")
        pipeline.until(lambda: self.ids() == [1])
        self.client.set_compatibility(f"{self.topic}-value", "BACKWARD")
        self.rig.execute("ALTER TABLE items ALTER v TYPE int")

    def accept(self) -> None:
        self.client.set_compatibility(f"{self.topic}-value", "NONE")

    def ids(self) -> list[int]:
        """Those of the records in the table's topic, in its order. None of them looks like a dead letter."""
        decode, found = AvroDeserializer(self.client), []
        for message in self.rig.kafka.consume_all(self.topic):
            assert not [name for name, _ in message.headers() or [] if name.startswith("__pycdc.")]
            value: Any = decode(message.value(), None)
            found.append(value["after"]["id"])
        return found

    def retry(self, *arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["parked", "retry", self._config, "--all", *arguments])
        return done.exit_code, done.output


@pytest.fixture
def refusing(rig: Rig, registry: RegistryAddress, tmp_path: Path) -> Iterator[RefusingRig]:
    made = RefusingRig(rig, registry, tmp_path)
    yield made
    made.client.close()


def test_rows_of_a_refused_schema_are_copied_once_behind_what_their_topic_has(refusing: RefusingRig) -> None:
    rig = refusing.rig
    with rig.running(refusing.document) as pipeline:
        refusing.refuse(pipeline)
        rig.execute("INSERT INTO items VALUES (2, 2), (3, 3), (4, 4)")
        pipeline.until(lambda: len(rig.pycdc("list")) == 3)
        code, said = refusing.retry()
        assert (code, "runs" in said) == (3, True)
    refusing.accept()
    letters = rig.pycdc("list", "--table", "public.items")
    assert {one["error"] for one in letters} == {"SchemaIncompatible"}
    assert rig.pycdc("drop", letters[1]["id"])["dead_letters"] == [letters[1]["id"]]
    assert rig.pycdc("retry", "--all")["dead_letters"] == [letters[0]["id"], letters[2]["id"]]
    assert rig.pycdc("list") == []
    with rig.running(refusing.document) as pipeline:
        rig.execute("INSERT INTO items VALUES (5, 5)")
        pipeline.until(lambda: refusing.ids() == [1, 2, 4, 5])


def test_a_letter_is_not_copied_behind_rows_that_came_later_unless_that_is_asked_for(refusing: RefusingRig) -> None:
    rig = refusing.rig
    with rig.running(refusing.document) as pipeline:
        refusing.refuse(pipeline)
        rig.execute("INSERT INTO items VALUES (2, 2)")
        pipeline.until(lambda: len(rig.pycdc("list")) == 1)
    refusing.accept()
    with rig.running(refusing.document) as pipeline:
        rig.execute("UPDATE items SET v = 3 WHERE id = 2")
        pipeline.until(lambda: refusing.ids() == [1, 2])
    code, said = refusing.retry()
    assert (code, "newer" in said) == (3, True)
    assert refusing.retry("--out-of-order")[0] == 0
    assert refusing.ids() == [1, 2, 2]
