"""A migration on a status server, with real databases: what the page is told, and what its buttons do."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from scripts.docs.migration_example import ExampleMigration

from pycdc.config.runtime import HttpConfig
from pycdc.observability.progress import Progress
from pycdc.observability.server import StatusServer
from pycdc.operations.migration.service import MigrationService
from tests.operations.conftest import Worlds
from tests.reading import PATIENCE, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.pg("newest")

TOKEN = "correct-horse"
FACADE = {
    "clusters": {"old": "http://127.0.0.1:1", "new": "http://127.0.0.1:2"},
    "routes": {"adjust": {"path": "/adjust", "methods": ["POST"]}, "read": {"path": "/read"}},
}


class Client:
    """Asks a status server as the page does."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port or 0

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            method = "GET" if body is None else "POST"
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def group(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("/migration.json")[1]["groups"][0]
        return found

    def give(self, command: str) -> dict[str, Any]:
        """Give a command, and return what became of it."""
        status, told = self.ask(f"/migration/groups/inventory/{command}", {})
        assert status == 202, told
        wait_for(lambda: not self.group()["command"]["runs"])
        found: dict[str, Any] = self.group()["command"]
        return found


def start_in_the_page(browser: Browser, url: str) -> None:
    page = browser.new_page()
    page.goto(f"{url}/migration")
    page.get_by_label("token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Start: following.").wait_for(timeout=PATIENCE * 1000)
    page.locator(".steps [aria-current=step]", has_text="following").wait_for()
    page.close()


def served(path: str) -> tuple[MigrationService, StatusServer]:
    service = MigrationService(path)
    settings = HttpConfig.model_validate({"port": 0, "token": TOKEN})
    return service, StatusServer(settings, Progress(), "to-new", service)


def test_a_group_moves_by_what_the_page_sends(world: Worlds, browser: Browser) -> None:
    here = world(facade=FACADE, routes=["adjust"], reads=["read"])
    service, server = served(str(here.path))
    with service, server:
        client = Client(server.url)
        wait_for(lambda: client.group()["read_seconds_ago"] is not None)
        first = client.group()
        assert (first["stage"], first["commands"]) == (None, ["start"])
        start_in_the_page(browser, server.url)
        wait_for(lambda: client.group()["stage"] == "following")
        wait_for(lambda: client.group()["open"])
        [staleness] = [one for one in client.group()["figures"] if one["name"] == "staleness"]
        assert staleness["value"] > 0
        assert staleness["goal"] == 10
        told = client.give("advance")
        assert (told["error"], told["stage"], told["said"]) == ("", "reading", ["verifies"])
        refused = client.give("advance")
        assert refused["error"] == "reads of read are not all at the new system"
        status, _ = client.ask("/migration/facade/read", {"percent": 100, "at_once": True})
        assert status == 202
        assert here.weight("read")["percent"] == 100
        assert client.give("advance")["stage"] == "ready"
        told = client.give("advance")
        assert told["stage"] == "watching", told
        assert told["said"][:3] == ["verifies", "holds writes", "fenced"]
        wait_for(lambda: client.group()["stage"] == "watching")
        wait_for(lambda: client.group()["verifications"] != [])
        last = client.group()
        assert (last["owner"], last["commands"]) == ("new", ["close", "roll-back"])
        [verified] = last["verifications"]
        assert (verified["direction"], verified["equal"]) == ("forward", True)
        assert {table["table"]: table["rows"] for table in verified["tables"]} == {
            "public.adjustments": 0,
            "public.items": 20,
        }
        figures = {one["name"]: one for one in last["figures"]}
        assert 0 < figures["pause of writes"]["value"] < figures["pause of writes"]["goal"] == 20
        assert figures["differences"]["value"] == 0
        assert "staleness" not in figures, "it is the new system that writes"
        assert here.weight("adjust")["percent"] == 100
        document = client.ask("/migration.json")[1]
        example = json.loads(json.dumps(ExampleMigration().document()))
        assert document["facade"].keys() == example["facade"].keys()
        assert document["facade"]["routes"][0].keys() == example["facade"]["routes"][0].keys()
        assert client.ask("/migration/groups/other/advance", {})[0] == 404
        assert client.ask("/migration/groups/inventory/leap", {})[0] == 409
        assert client.ask("/migration/facade/adjust", {"percent": 1})[0] == 409
        assert client.ask("/migration/facade/read", {"percent": 101})[0] == 409


def test_one_command_of_a_group_runs_at_a_time(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    here = world()
    reached, ended = threading.Event(), threading.Event()

    def waits(*_: object) -> None:
        reached.set()
        ended.wait()

    monkeypatch.setattr("pycdc.operations.migration.command_runner.Cutover.start", waits)
    service, server = served(str(here.path))
    with service, server:
        client = Client(server.url)
        assert client.ask("/migration/groups/inventory/start", {})[0] == 202
        reached.wait()
        status, told = client.ask("/migration/groups/inventory/advance", {})
        assert (status, told["error"]) == (409, "start is at work on group inventory")
        ended.set()
        wait_for(lambda: not client.group()["command"]["runs"])
        assert client.group()["command"]["error"] == "it failed (AttributeError)"  # what was returned is no state
