"""Exit codes, and how errors are told."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pycdc.cli import app
from pycdc.cli.app import COMMANDS
from pycdc.errors import EnvironmentNotReady, PycdcError
from pycdc.version import __version__
from tests.cli.conftest import Invoke

CANARY = "hunter2canary"


def test_the_version_is_printed(invoke: Invoke) -> None:
    result = invoke("version")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"pycdc {__version__}"
    assert invoke("--version").stdout == f"pycdc {__version__}\n"


def test_without_a_command_it_prints_its_help(invoke: Invoke) -> None:
    bare = invoke()
    assert (bare.exit_code, bare.stderr) == (0, "")
    assert bare.stdout == invoke("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (["/nowhere/shop.yaml"], "config", 2),
        ([], "usage", 2),
        (["--dsn", "host=127.0.0.1 port=1 connect_timeout=2", "--table", "t"], "connection-lost", 1),
    ],
)
def test_with_json_lines_an_error_of_any_kind_is_one(
    arguments: list[str], kind: str, code: int, invoke: Invoke
) -> None:
    result = invoke("run", "--log-format", "json", *arguments)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert (lines[-1]["event"], lines[-1]["error"], result.exit_code) == ("failed", kind, code)


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "pycdc", "version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"pycdc {__version__}\n")


def test_every_command_has_help(invoke: Invoke) -> None:
    listed = invoke("--help")
    assert listed.exit_code == 0
    for name in COMMANDS:
        assert f"  {name}" in listed.stdout
        result = invoke(name, "--help")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("Usage: pycdc")


@pytest.mark.parametrize(
    ("args", "fact", "hint"),
    [
        (("nope",), "no such command 'nope'", "pycdc --help"),
        (("run", "--nope"), "no such option '--nope'", "pycdc run --help"),
        (("run",), "give CONFIG, or --dsn and --table", "pycdc run --help"),
        (("run", "shop.yaml", "--limit", "1"), "--limit is for --dry-run", "pycdc run --help"),
        (("run", "shop.yaml", "--from", "earliest"), "--from is for --dry-run", "pycdc run --help"),
        (("run", "shop.yaml", "--no-values"), "--no-values is for --dry-run", "pycdc run --help"),
        (("run", "shop.yaml", "--json"), "--json is for --dry-run", "pycdc run --help"),
        (("run", "shop.yaml", "--table", "users"), "--table is for running without CONFIG", "pycdc run --help"),
        (("run", "--dsn", "host=db"), "give CONFIG, or --dsn and --table", "pycdc run --help"),
        (("doctor",), "missing argument 'CONFIG'", "pycdc doctor --help"),
        (("init",), "missing option '--dsn'", "pycdc init --help"),
        (
            ("doctor", "/nowhere/shop.yaml"),
            "cannot read /nowhere/shop.yaml: no such file or directory",
            "check the path",
        ),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_do(
    invoke: Invoke, args: tuple[str, ...], fact: str, hint: str
) -> None:
    result = invoke(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    error, remedy = result.stderr.splitlines()
    assert error.startswith(f"error: {fact}")
    assert remedy.startswith(f"try: {hint}")


@pytest.mark.parametrize("command", ["run", "doctor", "status", "teardown"])
def test_a_bad_configuration_exits_with_2(invoke: Invoke, command: str) -> None:
    result = invoke(command, "-", stdin=f"name: shop\nsource: {CANARY}\n")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: standard input has 2 errors")
    assert "source must be a section" in result.stderr
    assert "sink is missing" in result.stderr
    assert CANARY not in result.output


@pytest.mark.parametrize(
    ("error", "code", "error_report"),
    [
        (EnvironmentNotReady("the server is away", hint="start it"), 3, "error: the server is away\ntry: start it\n"),
        (PycdcError("it broke"), 1, "error: it broke\n"),
        (RuntimeError(CANARY), 1, "error: something unexpected happened (RuntimeError)\ntry: pycdc --debug"),
    ],
)
def test_an_error_is_told_without_a_traceback(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, error_report: str
) -> None:
    def fail(path: str) -> None:
        raise error

    monkeypatch.setattr("pycdc.cli.status.load_config", fail)
    result = invoke("status", "shop.yaml")
    assert result.exit_code == code
    assert result.stderr.startswith(error_report)


def test_an_interrupt_that_a_call_into_c_reports_as_an_error_is_an_interrupt(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise SystemError("a call returned a result with an exception set") from KeyboardInterrupt()

    monkeypatch.setattr("pycdc.cli.status.load_config", fail)
    result = invoke("status", "shop.yaml")
    assert (result.exit_code, result.stderr) == (130, "aborted\n")
    assert "Traceback" not in result.output
    assert CANARY not in result.output
    assert "Traceback" in invoke("--debug", "status", "shop.yaml").stderr


def test_a_traceback_shows_no_secret_of_a_bad_configuration(invoke: Invoke) -> None:
    result = invoke("--debug", "doctor", "-", stdin=f"name: shop\nhttp: {{port: {CANARY}, token: {CANARY}}}\n")
    assert "Traceback" in result.stderr
    assert CANARY not in result.output


def test_the_schema_is_json(invoke: Invoke) -> None:
    schema = json.loads(invoke("schema").stdout)
    for root in ("CapturePipeline", "ApplyPipeline"):
        assert schema["$defs"][root]["required"] == ["name", "source", "sink"]
        assert schema["$defs"][root]["properties"]["name"]["description"]


def test_the_schema_takes_what_the_loader_takes() -> None:
    from pycdc.cli.schema import json_schema

    schema = json_schema()
    capture = schema["$defs"]["CapturePipeline"]["properties"]
    port = schema["$defs"]["HttpConfig"]["properties"]["port"]
    assert {"type": "string", "pattern": r"\$\{.+\}"} in port["anyOf"]
    assert port["default"] == 9464
    assert {"enum": ["debezium", "debezium-3.6", "debezium-3.7", "honest"], "type": "string"} in capture[
        "compatibility"
    ]["anyOf"]
    assert {"type": "null"} in capture["http"]["anyOf"]
    assert {"type": "string", "format": "uri"} in schema["$defs"]["KafkaSinkConfig"]["properties"]["registry"]["anyOf"]


def test_colors_are_left_out_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def main(self: object, *args: object, **extra: object) -> int:
        seen.update(extra)
        return 0

    monkeypatch.setattr("click.Group.main", main)
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit):
        app.main(["version"])
    assert seen["color"] is False
