"""Both systems are asked what users ask, and the guard listens to what is found."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pycdc.cli.facade import facade as facade_command
from pycdc.config.facade import FacadeConfig
from pycdc.errors import ConfigError
from pycdc.facade.answer_comparison import ServiceAnswer
from pycdc.facade.envoy import Facade
from pycdc.facade.sample_report import SCHEMA
from pycdc.facade.sampler import Sampler
from tests.facade.conftest import PYCDC, Run, Running
from tests.facade.upstreams import Load, Upstream
from tests.json_schema import problems
from tests.programs import Program
from tests.reading import wait_for


class Shop(Upstream):
    """Its answers have times and ids of their own; the quantity of items in `wrong` is another one."""

    wrong: frozenset[str] = frozenset()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        item = request.path.rpartition("/")[2]
        content = {
            "id": item,
            "quantity": 7 + (item in self.wrong),
            "generatedAt": time.time_ns(),
            "lines": [{"sku": "a", "trace": uuid.uuid4().hex}, {"sku": "b", "trace": uuid.uuid4().hex}],
        }
        self._send(request, 200, json.dumps(content))


@pytest.fixture
def old() -> Iterator[Shop]:
    shop = Shop("old")
    yield shop
    shop.stop()


@pytest.fixture
def new() -> Iterator[Shop]:
    shop = Shop("new")
    yield shop
    shop.stop()


def sampled(run: Run) -> Running:
    return run(sample={"share": 1, "max_rate": 100, "settle": 0.02, "min_compared": 5}, bake=0)


def sampler(facade: Running, *options: str) -> Program:
    program = Program([*PYCDC, "facade", "sample", str(facade.path), "--json", *options], facade.folder)
    program.wait_until(lambda: "samples" in program.log)
    return program


def kept(facade: Running) -> dict[str, Any]:
    path = facade.folder / "facade" / "sample.json"
    found: dict[str, Any] = json.loads(path.read_text())["routes"]["read"] if path.exists() else {}
    return found


@pytest.mark.server
def test_a_wrong_value_is_found_and_noise_is_not(run: Run, new: Shop) -> None:
    facade = sampled(run)
    with Load(facade.port):
        with sampler(facade) as program:
            program.wait_until(lambda: kept(facade).get("compared", 0) >= 30)
            assert program.stop() == 0
            equal = json.loads("\n".join(program.lines))
        new.wrong = frozenset({"2"})
        with sampler(facade, "--values") as program:
            program.wait_until(lambda: kept(facade).get("different", 0) >= 3)
            assert program.stop() == 1
            differing = json.loads("\n".join(program.lines))
    assert equal["equal"]
    assert [one["place"] for one in equal["routes"]["read"]["noise"]] == ["generatedAt", "lines[].trace"]
    found = differing["routes"]["read"]
    assert [(one["place"], one["kind"]) for one in found["places"]] == [("quantity", "value")]
    assert {one["request"] for one in found["examples"]} == {"/api/stock/2"}
    assert found["examples"][0]["values"] == {"quantity": ["7", "8"]}
    assert found["different"] < found["compared"], "other items are equal"
    assert problems(differing, json.loads(SCHEMA.read_text())) == []
    assert 'outcome="different",route="read"' in (facade.folder / "facade" / "sample.prom").read_text()
    lines = (facade.folder / "facade" / "reads.log").read_text().splitlines()
    assert set(json.loads(lines[0])) == {"path", "host", "headers"}


@pytest.mark.server
def test_reads_move_only_while_answers_are_compared_and_equal(run: Run, new: Shop) -> None:
    facade = sampled(run)
    with Load(facade.port) as load:
        assert facade.command("set", "read", "100", "--no-wait").returncode == 0
        before = load.total
        wait_for(lambda: load.total > before + 500)
        assert facade.weight()["percent"] == 0, "nobody compares"
        with sampler(facade) as program:
            wait_for(lambda: facade.weight()["percent"] == 100)
            new.wrong = frozenset({"1"})
            wait_for(lambda: facade.weight()["percent"] == 0)
            assert program.stop() == 1
    assert facade.weight()["reason"] == "stepped back: answers to read differ, see sample.json"
    assert load.failed == 0


def test_without_the_section_the_command_names_it(tmp_path: Path) -> None:
    path = tmp_path / "migration.yaml"
    path.write_text(
        '{"facade": {"clusters": {"old": "http://a:1", "new": "http://b:1"}, "routes": {"r": {"path": "/"}}}}'
    )
    done = CliRunner().invoke(facade_command, ["sample", str(path)])
    assert isinstance(done.exception, ConfigError)
    assert "sample: {}" in done.exception.hint


class Scripted(Sampler):
    """Gets its answers from a list: the old system's, the new one's, the old one's again, and so on."""

    answers: list[Any]

    def _answer(self, cluster: str, request: Any) -> ServiceAnswer:
        return ServiceAnswer.of(200, json.dumps(self.answers.pop(0)).encode())


@pytest.mark.parametrize(
    ("rounds", "different"),
    [
        (["1 1 1"], 0),
        (["1 0 1", "1 1 1"], 0),  # the copy was behind
        (["1 0 1", "2 1 2", "2 2 2"], 0),
        (["1 1 2"], 0),  # it was written in between
        (["1 0 2"], 0),
        (["1 0 1", "1 0 1", "1 0 1"], 1),
        (["1 0 1", "2 1 2", "3 2 3"], 1),  # it stays behind
    ],
)
def test_a_difference_is_one_that_stays(tmp_path: Path, rounds: list[str], different: int) -> None:
    config = FacadeConfig.model_validate(
        {
            "clusters": {"old": "http://a:1", "new": "http://b:1"},
            "routes": {"read": {"path": "/n"}, "rest": {"path": "/w", "methods": ["POST"]}},
            "sample": {"settle": 0, "max_rate": 0.001},
        }
    )
    facade = Facade(config, tmp_path)
    sampler = Scripted(facade, config.sample, values=False)  # type: ignore[arg-type]
    sampler.answers = [*map(int, " ".join(rounds).split())]
    line = json.dumps({"path": "/n?secret=1", "host": "shop", "headers": {"accept": None}})
    facade.access_log.write_text(f'{line}\n{{"path": "/w"}}\nbroken\n{line}\n{{"path":')
    sampler.run(lambda _: not sampler.answers)
    found = sampler.report.document()["routes"]["read"]
    assert (found["compared"], found["different"], found["passed_over"]) == (1, different, 1)
    assert [one["request"] for one in found["examples"]] == ["/n"] * different
    assert sampler.answers == []
    assert problems(sampler.report.document(), json.loads(SCHEMA.read_text())) == []
