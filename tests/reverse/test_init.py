"""`pycdc init --reverse`: a first configuration from what topics and tables look like."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from pycdc.cli import main
from pycdc.config import load_text
from pycdc.config.pipeline import require_apply
from tests.reverse.conftest import Rig

pytestmark = pytest.mark.pg("newest")


def init(rig: Rig, *options: str) -> Result:
    command = ["init", "--reverse", "--dsn", rig.dsn, "--brokers", rig.kafka.bootstrap, "--registry", "", *options]
    return CliRunner().invoke(main, command)


def test_what_is_printed_loads_and_would_apply(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.sql("CREATE TABLE stock (item_id int PRIMARY KEY, quantity int, seen_at timestamptz)")
    rig.kafka.create_topic(rig.topic)
    rig.kafka.create_topic(f"{rig.name}.empty")
    rig.produce([(1, {"itemId": 1, "quantity": 5, "seenAt": "2026-01-01T00:00:00Z", "reason": "count"}), (1, None)])
    result = init(rig, "--topic", f"{rig.name}.*", "--name", rig.name)
    assert result.exit_code == 0, result.output
    assert f"topic {rig.name}.empty has no records that tell a row" in result.stderr
    assert "# without a column: reason" in result.stdout
    monkeypatch.setenv("PYCDC_DSN", rig.dsn)
    config = require_apply(load_text(result.stdout, "printed"))
    (route,) = config.sink.postgres.routes
    assert (route.table, route.key) == ("public.stock", {"item_id": "itemId"})
    assert route.set == {"quantity": "quantity", "seen_at": "seenAt"}
    path = rig.folder / "printed.yaml"
    path.write_text(result.stdout)
    dry = CliRunner().invoke(main, ["run", "--dry-run", str(path)])
    assert 'INSERT INTO "public"."stock"' in dry.stdout


def test_what_fits_nothing_is_said(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"nothing": 1})])
    none = init(rig, "--topic", rig.topic)
    assert (none.exit_code, "no table fits" in none.stderr) == (3, True)
    missing = init(rig, "--topic", "nowhere")
    assert (missing.exit_code, "no topic matches nowhere" in missing.stderr) == (3, True)
    assert init(rig).exit_code == 2
