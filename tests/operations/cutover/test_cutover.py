"""Writes move to another database and back while applications write: nothing is lost, nothing is doubled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pycdc.cli.cutover import opened
from pycdc.cli.facade import load_facade
from pycdc.config.pipeline import require_apply, require_capture
from pycdc.errors import EnvironmentNotReady
from pycdc.model.origin import MESSAGE_PREFIX, mark
from pycdc.operations.cutover import commands, handover
from pycdc.operations.cutover.commands import Cutover
from pycdc.operations.cutover.drain import drain
from pycdc.operations.cutover.fence import SQLSTATE
from pycdc.operations.cutover.handover import SteppedBack
from pycdc.operations.cutover.opening import opened_group
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.relation import ComparedRelation
from pycdc.operations.verify.verification import verify
from tests.operations.conftest import Worlds
from tests.operations.cutover.world import Applications, World
from tests.reading import PATIENCE, wait_for

pytestmark = pytest.mark.pg("newest")

ROWS = int(os.environ.get("PYCDC_CUTOVER_ROWS", "0"))
"""Of a table that `make chaos-cutover` fills."""
STEPS = 3
"""`advance` from following to watching."""


def ready(world: World) -> None:
    world.commands(Cutover.start)
    for _ in range(STEPS - 1):
        world.commands(Cutover.advance)
    assert world.stage() == "ready"


def advanced(world: World, act: Callable[[str], None]) -> None:
    """Advance; `act` hears what is announced."""
    with opened_group(str(world.path), "inventory") as (group, facade, _):
        Cutover(group, facade, act).advance()


def when_held(act: Callable[[], None]) -> Callable[[str], None]:
    """Do something when writes are held at the façade, and the fence is not up yet."""
    return lambda moment: act() if moment == "holds writes" else None


def test_writes_move_forth_and_back_and_forth(world: Worlds) -> None:
    here = world()
    assert here.command("start").returncode == 0
    with Applications(here) as applications:
        applications.wait_for_writes("old")
        for stage in ("reading", "ready", "watching"):
            told = here.command("advance", "--json")
            assert told.returncode == 0, told.stderr
            assert json.loads(told.stdout)["stage"] == stage
        assert 0 < json.loads(told.stdout)["pause"] < 20
        assert applications.by_side["old"] > 0
        applications.wait_for_writes("new")
        told = here.command("roll-back")
        assert told.returncode == 0, told.stderr
        assert "following, the old system writes, writes were held for " in told.stdout
        applications.wait_for_writes("old")
        for _ in range(STEPS):
            here.commands(Cutover.advance)
        applications.wait_for_writes("new")
    applications.require_all()
    # Rows that the new system makes by itself have ids of their own: its sequences were set.
    assert here.rows("new", "SELECT count(*) = count(DISTINCT id) FROM adjustments") == [(True,)]


def test_the_side_that_does_not_own_is_told_who_does(world: Worlds) -> None:
    here = world()
    here.commands(Cutover.start)
    for statement in ("UPDATE items SET available = 9", "DELETE FROM adjustments", "TRUNCATE adjustments"):
        if statement.startswith("DELETE"):
            here.execute("old", "INSERT INTO moves (sku, pieces) VALUES ('sku-1', 0)")
            wait_for(lambda: here.rows("new", "SELECT count(*) FROM adjustments") == [(1,)])
        with pytest.raises(psycopg.Error, match="belongs to the old system") as refused:
            here.execute("new", statement)
        assert refused.value.sqlstate == SQLSTATE


def test_columns_move_and_the_rest_of_the_row_stays(world: Worlds) -> None:
    table = {"old": "public.stock", "new": "public.items", "old_columns": ["on_hand"], "new_columns": ["available"]}
    here = world(tables=[table])
    ready(here)
    here.execute("old", "UPDATE stock SET on_hand = 5, price = 2 WHERE sku = 'sku-1'")
    here.commands(Cutover.advance)
    here.execute("old", "UPDATE stock SET price = 3 WHERE sku = 'sku-1'")
    here.execute("new", "UPDATE items SET available = 6 WHERE code = 'sku-1'")
    with pytest.raises(psycopg.Error, match="column on_hand belongs to the new system"):
        here.execute("old", "UPDATE stock SET on_hand = 7 WHERE sku = 'sku-1'")
    for statement in ("UPDATE items SET price = 7", "DELETE FROM items", "INSERT INTO items VALUES ('x', 1)"):
        with pytest.raises(psycopg.Error, match="all but available belongs to the old system"):
            here.execute("new", statement)


def test_a_pause_that_is_too_long_steps_back_by_itself(world: Worlds) -> None:
    here = world(max_pause=2, gates={"max_lag": 10, "max_transaction": 60})
    ready(here)
    with Applications(here) as applications:
        applications.wait_for_writes("old")
        with psycopg.connect(here.dsns["old"]) as idle:

            def write() -> None:
                idle.execute("UPDATE stock SET price = 5 WHERE sku = 'sku-1'")  # its transaction stays open

            with pytest.raises(SteppedBack, match="stepped back, writes were held for"):
                advanced(here, when_held(write))
        applications.wait_for_writes("old")
        assert applications.by_side["new"] == 0
        state = here.commands(Cutover.state)
        assert (state.stage, state.owner) == ("ready", "old")
        assert "open transactions hold public." in state.note or "max_pause" in state.note
        here.change(max_pause=60)  # nobody is in the way any more: it shall only be the machine that takes long
        here.commands(Cutover.advance)
        applications.wait_for_writes("new")
    applications.require_all()


def test_the_side_that_gave_its_writes_away_refuses_them_beyond_the_pause(world: Worlds) -> None:
    here = world(max_pause=5)
    ready(here)
    done(here, "advance", "watching")
    until = here.commands(Cutover.state).until
    wait_for(lambda: here.rows("old", f"SELECT clock_timestamp() > '{until}'::timestamptz") == [(True,)])
    with pytest.raises(psycopg.Error, match="belongs to the new system"):
        here.execute("old", "UPDATE stock SET on_hand = 5 WHERE sku = 'sku-1'")


def plant(world: World, statement: str) -> None:
    """Change rows of the new side past the fence, as if the apply side had: nothing brings it to the old database."""
    with psycopg.connect(world.dsns["new"]) as somebody:
        somebody.execute("SET session_replication_role = replica")
        name = world.pipelines["apply"].config.name
        somebody.execute("SELECT pg_logical_emit_message(true, %s, %s)", (MESSAGE_PREFIX, mark(name, ())))
        somebody.execute(statement.encode())


def test_a_difference_is_found_before_writes_are_held(world: Worlds) -> None:
    here = world()
    ready(here)
    plant(here, "UPDATE items SET available = 99 WHERE code = 'sku-3'")
    with pytest.raises(EnvironmentNotReady, match=r"1 rows that .* are not as") as refused:
        here.commands(Cutover.advance)
    assert not isinstance(refused.value, SteppedBack)
    assert here.commands(Cutover.state).held_at == 0
    here.execute("old", "UPDATE stock SET on_hand = 1 WHERE sku = 'sku-1'")


def test_a_difference_that_comes_in_the_pause_steps_back(world: Worlds) -> None:
    """In a row that has changed since the verification before it: the others are not looked at again."""
    here = world(max_pause=60)
    ready(here)

    def act(moment: str) -> None:
        if moment == "holds writes":
            here.execute("old", "UPDATE stock SET on_hand = 5 WHERE sku = 'sku-3'")
        if moment == "drained":
            plant(here, "UPDATE items SET available = 99 WHERE code = 'sku-3'")

    with pytest.raises(SteppedBack, match=r"1 rows that .* are not as"):
        advanced(here, act)
    here.execute("old", "UPDATE stock SET on_hand = 1 WHERE sku = 'sku-1'")


def test_an_event_that_is_lost_just_before_the_pause_steps_back(world: Worlds) -> None:
    here = world(max_pause=60)
    ready(here)
    here.execute(
        "new",
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.available := 0; RETURN NEW; END';"
        "CREATE TRIGGER lose BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION lose()",
    )
    with pytest.raises(SteppedBack, match=r"1 rows that .* are not as"):
        advanced(here, when_held(lambda: here.execute("old", "UPDATE stock SET on_hand = 5 WHERE sku = 'sku-4'")))


def test_tables_that_take_longer_than_the_pause_are_verified_before_it(
    world: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum over a table takes as long as writes may be held. Only rows that changed are compared meanwhile.

    With PYCDC_CUTOVER_ROWS a table is so large that it does without help.
    """
    here = world(max_pause=30, filled=ROWS)
    ready(here)
    if ROWS:
        way = here.pipelines["apply"].config, here.pipelines["capture"].config
        seconds = verify(require_apply(way[0]), VerifyOptions(capture=require_capture(way[1]))).seconds
        here.change(max_pause=seconds * 0.8)
    paused, sums, rows = threading.Event(), ComparedRelation.sums, ComparedRelation.rows
    compared: set[str] = set()

    def slow(*args: Any, **options: Any) -> Any:
        if paused.is_set():
            time.sleep(300)
        return sums(*args, **options)

    def counted(*args: Any, **options: Any) -> Any:
        found = rows(*args, **options)
        if paused.is_set():
            compared.update(key for (key,), _ in found)
        return found

    def change() -> None:
        paused.set()
        here.execute("old", "UPDATE stock SET on_hand = 5 WHERE sku = 'sku-4'")

    monkeypatch.setattr(ComparedRelation, "sums", slow)
    monkeypatch.setattr(ComparedRelation, "rows", counted)
    advanced(here, when_held(change))
    state = here.commands(Cutover.state)
    assert state.stage == "watching"
    if ROWS:
        print(f"{ROWS} rows: verified in {seconds:.1f} s, writes were held for {state.pause:.1f} s")
    assert "sku-4" in compared
    assert len(compared) < 20  # with a few keys before: the end of the snapshot's records is read again


def test_a_closed_gate_keeps_everything_where_it_is(world: Worlds) -> None:
    here = world(gates={"max_lag": 1.5, "max_transaction": 60})
    ready(here)
    here.pipelines["reverse_apply"].stop()
    wait_for(lambda: here.pipelines["reverse_apply"].progress.state == "stopped")
    here.execute("old", "ALTER TABLE stock ADD note text")
    here.execute("new", UNDECIDED.format(pipeline=here.pipelines["apply"].config.name))
    told = here.command("check", "--json")
    assert told.returncode == 1
    closed = {gate["gate"].split()[-1]: gate["reason"] for gate in json.loads(told.stdout)["gates"] if not gate["open"]}
    assert "does not run" in closed["parked"]
    assert closed["conflicts"].startswith("1 conflicts wait")
    assert closed["tables"].startswith("old public.stock changed since")
    with pytest.raises(EnvironmentNotReady, match="is closed"):
        here.commands(Cutover.advance)
    assert here.stage() == "ready"
    assert here.command("advance", "--dry-run").stdout.startswith("would: verify; hold writes, drain, verify")


UNDECIDED = """INSERT INTO pycdc.conflicts
    (pipeline, topic, partition, "offset", "table", key, kind, decision, event_time)
VALUES ('{pipeline}', 't', 0, 0, 'public.items', '{{}}', 'update_update', 'parked', now())"""


def test_the_way_back_is_given_up_only_when_it_may_be(world: Worlds) -> None:
    here = world()
    ready(here)
    here.commands(Cutover.advance)
    with pytest.raises(EnvironmentNotReady, match="rollback window lasts"):
        here.commands(Cutover.close)
    assert here.commands(lambda commands: commands.close(now=True)).stage == "closed"
    assert here.commands(Cutover.start).stage == "closed"  # makes no fence again
    assert fences(here, "new") == 0
    with pytest.raises(psycopg.Error, match="belongs to the new system"):
        here.execute("old", "UPDATE stock SET price = 2 WHERE sku = 'sku-2'")
    with pytest.raises(EnvironmentNotReady, match="is closed"):
        here.commands(Cutover.roll_back)


def fences(world: World, side: str) -> int:
    """Return how many triggers and functions of the fence a database has."""
    found = world.rows(
        side,
        "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%pycdc%')"
        " + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'pycdc_cutover'::regnamespace)",
    )
    return int(found[0][0])


def test_a_close_that_was_broken_off_is_finished_and_leaves_other_groups_theirs(
    world: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world()
    ready(here)
    here.commands(Cutover.advance)
    monkeypatch.setattr(commands, "_LOCK_SECONDS", 0.3)
    with psycopg.connect(here.dsns["new"]) as reader:
        reader.execute("SELECT * FROM items")
        with pytest.raises(EnvironmentNotReady, match=r"open transactions hold public\.items") as caught:
            here.commands(lambda found: found.close(now=True))
        assert caught.value.hint
    assert here.stage() == "closed"
    for side in ("old", "new"):
        here.execute(side, "INSERT INTO pycdc_cutover.groups VALUES ('other', 1, '{\"stage\": \"ready\"}')")
    here.commands(Cutover.close)
    assert here.rows("new", "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%pycdc%'") == [(0,)]
    assert fences(here, "new") == 1  # the function
    for side in ("old", "new"):
        here.execute(side, "DELETE FROM pycdc_cutover.groups WHERE name = 'other'")
    here.commands(Cutover.close)
    assert fences(here, "new") == 0


def test_what_hangs_on_the_way_forth_does_not_keep_a_roll_back_up(
    world: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads and writes are at the old system at once; what is left is to see the way forth alive."""
    here = world(facade=FACADE, routes=["adjust"], reads=["read"])
    read_everything(here)
    ready(here)
    here.commands(Cutover.advance)
    assert (here.weight("adjust")["percent"], here.weight("read")["percent"]) == (100, 100)
    here.execute("new", "UPDATE items SET available = 7 WHERE code = 'sku-1'")
    monkeypatch.setattr(handover, "_PROBE_SECONDS", 0.5)
    for name in ("capture", "reverse_capture"):  # the second time nothing is asked of the way back either: it is done
        pipeline = here.pipelines[name]
        pipeline.stop()
        wait_for(lambda pipeline=pipeline: pipeline.progress.state == "stopped")  # type: ignore[misc]
        with pytest.raises(EnvironmentNotReady, match="did not bring"):
            here.commands(Cutover.roll_back)
        state = here.commands(Cutover.state)
        assert (state.stage, state.owner) == ("switched", "old")
        assert (here.weight("adjust")["percent"], here.weight("read")["percent"]) == (0, 0)
        assert not here.weight("adjust")["held"]
    here.execute("old", "UPDATE stock SET on_hand = on_hand + 1 WHERE sku = 'sku-1'")
    assert here.rows("old", "SELECT on_hand FROM stock WHERE sku = 'sku-1'") == [(8,)]
    with pytest.raises(EnvironmentNotReady, match="a roll back is under way"):
        here.commands(Cutover.advance)


def read_everything(world: World) -> None:
    weights = load_facade(str(world.path)).weights
    weights.change({"read": lambda weight: weight.moved(100, 100, "set")})


FACADE = {
    "clusters": {"old": "http://127.0.0.1:1", "new": "http://127.0.0.1:1"},
    "routes": {"adjust": {"path": "/adjust", "methods": ["POST"]}, "read": {"path": "/items/{item}"}},
}


KILLER = """
import os, signal, sys
from pycdc.cli import cutover
from pycdc.facade.route_weights import RouteWeights
from pycdc.operations.cutover import commands, fence, handover

path, command, step = sys.argv[1:]
count = 0

def killed_at(original):
    def counted(*args, **kwargs):
        global count
        count += 1
        if count == int(step):
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        count += 1
        if count == int(step):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return counted

STEPS = (
    (commands, "write_state"),
    (handover, "write_state"),
    (fence, "put_up"),
    (fence, "take_down"),
    (RouteWeights, "change"),
)
for owner, name in STEPS:
    setattr(owner, name, killed_at(getattr(owner, name)))
with cutover.opened(path, "inventory") as (_, group):
    getattr(group, command)()
print("done at", count, file=sys.stderr)
"""


KILLS = (7, 22, 29)
"""`fenced` is stored in one database; the giver is sealed and nothing decided; only the taker knows the decision."""


@pytest.mark.slow
def test_a_kill_at_any_step_of_either_direction_loses_nothing(world: Worlds) -> None:
    """A hand-over is killed before or after something that it stores or refuses, and given again until it is done.

    Applications write all the while. PYCDC_CUTOVER_KILLS=all kills at each of the steps.
    """
    here = world(verify="before", facade=FACADE, routes=["adjust"], reads=["read"])
    read_everything(here)
    ready(here)
    steps = range(1, 60) if os.environ.get("PYCDC_CUTOVER_KILLS") == "all" else KILLS
    with Applications(here) as applications:
        for step in steps:
            was_killed = killed(here, "advance", step)
            done(here, "advance", "watching")
            require_writes_at(here, 100)
            applications.wait_for_writes("new")
            was_killed = killed(here, "roll_back", step) or was_killed
            done(here, "roll_back", "following")
            require_writes_at(here, 0)
            assert here.weight("read")["percent"] == 0
            applications.wait_for_writes("old")
            if not was_killed:
                break  # there are no more steps than that
            read_everything(here)
            done(here, "advance", "ready")
    applications.require_all()


def require_writes_at(world: World, percent: int) -> None:
    """The façade holds no writes, and leads them to the side that takes them."""
    weight = world.weight("adjust")
    assert (weight["percent"], weight["held"]) == (percent, False)


def killed(world: World, command: str, step: int) -> bool:
    """Run a command that is killed at a step; return False where it is done in fewer steps."""
    program = [sys.executable, "-c", KILLER, str(world.path), command, str(step)]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, -signal.SIGKILL) or "stepped back" in ended.stderr, ended.stderr
    return ended.returncode != 0


def done(world: World, command: str, goal: str) -> None:
    """Give a command again until it has led where it should; it steps back where its pause is over."""
    for _ in range(6):
        if world.stage() == goal:
            return
        with contextlib.suppress(SteppedBack):
            world.commands(getattr(Cutover, command))
    assert world.stage() == goal


def test_a_drain_ends_behind_all_that_was_committed(world: Worlds) -> None:
    """What was committed cannot be applied as long as somebody holds its row: neither can the drain end."""
    here = world()
    with opened(str(here.path), "inventory") as (group, _), ThreadPoolExecutor(1) as executor:
        with psycopg.connect(here.dsns["new"]) as holder:
            holder.execute("SELECT * FROM items WHERE code = 'sku-1' FOR UPDATE")
            here.execute("old", "UPDATE stock SET on_hand = 7 WHERE sku = 'sku-1'")
            draining = executor.submit(drain, group.way("forward"), 60)
            with pytest.raises(TimeoutError):
                draining.result(2)
        assert draining.result(PATIENCE) >= 2
        assert here.rows("new", "SELECT available FROM items WHERE code = 'sku-1'") == [(7,)]


def test_a_drain_that_takes_too_long_is_an_error_with_a_remedy(world: Worlds) -> None:
    here = world()
    with opened(str(here.path), "inventory") as (group, _), psycopg.connect(here.dsns["new"]) as holder:
        holder.execute("SELECT * FROM items WHERE code = 'sku-1' FOR UPDATE")
        here.execute("old", "UPDATE stock SET on_hand = 7 WHERE sku = 'sku-1'")
        with pytest.raises(EnvironmentNotReady, match="within") as caught:
            drain(group.way("forward"), 1)
        assert caught.value.hint
