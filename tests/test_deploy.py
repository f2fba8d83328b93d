"""The image, the compose file and its sample: what can be checked without an engine, and the rest on real servers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from packaging.requirements import Requirement
from psycopg.conninfo import conninfo_to_dict

from pycdc.config import load, load_text
from pycdc.config.pipeline import require_capture
from pycdc.config.runtime import HttpConfig
from pycdc.observability.progress import Progress
from pycdc.observability.server import StatusServer
from tests.programs import Program

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined, comments gone."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def exec_form(word: str, stage: list[tuple[str, str]]) -> list[str]:
    text = next(rest for name, rest in stage if name == word)
    command: list[str] = json.loads(text[text.index("[") :])
    return command


# The image


def test_the_image_runs_pycdc_as_nobody_special() -> None:
    stage = final_stage()
    assert exec_form("ENTRYPOINT", stage) == ["pycdc"]
    users = [rest for word, rest in stage if word == "USER"]
    assert users, "no USER"
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]), "by number, so that runAsNonRoot can be checked"
    after = stage[next(i for i, (word, _) in enumerate(stage) if word == "USER") :]
    assert not [word for word, _ in after if word in ("RUN", "COPY", "ADD")]


def test_the_image_is_made_in_stages_and_the_last_has_no_build_tools() -> None:
    bases = [rest for word, rest in instructions() if word == "FROM"]
    assert len(bases) == 2
    assert all("-slim" in base for base in bases)
    stage = " ".join(rest for _, rest in final_stage())
    assert not re.search(r"apt-get|build-essential|gcc|pip install", stage)
    assert [rest for word, rest in final_stage() if word == "COPY"] == ["--from=build /opt/pycdc /opt/pycdc"]


def test_the_build_context_holds_what_the_image_copies_and_little_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source.removeprefix("./")
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("token", [None, "let-me-in"])
def test_the_health_check_tells_a_running_pipeline_from_one_that_stopped(
    token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress()
    command = [sys.executable, *exec_form("HEALTHCHECK", final_stage())[1:]]
    with StatusServer(HttpConfig(port=0, token=token), progress) as server:  # type: ignore[arg-type]
        monkeypatch.setenv("PYCDC_HTTP_PORT", server.url.rpartition(":")[2])
        monkeypatch.setenv("PYCDC_HTTP_TOKEN", token or "")
        assert subprocess.run(command, capture_output=True).returncode == 0
        progress.state = "stopped"
        assert subprocess.run(command, capture_output=True).returncode != 0


# The compose file


def test_services_wait_for_others_that_can_say_that_they_are_well() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert "healthcheck" in SERVICES[other], other
    assert set(SERVICES["pycdc"]["depends_on"]) == {"postgres", "kafka", "registry"}


def test_ports_are_open_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_name_the_versions_that_the_tests_run_on() -> None:
    from tests.services import kafka, registry

    images = [service["image"] for service in SERVICES.values() if "image" in service]
    assert all(re.search(r":\d", image) for image in images)
    assert {kafka.IMAGE, registry.IMAGE} <= set(images)


def test_mounted_files_exist_and_cannot_be_written() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source, _, mode = volume.split(":")
            assert (ROOT / source).is_file()
            assert mode == "ro"


def test_postgres_is_ready_for_logical_decoding() -> None:
    assert "wal_level=logical" in SERVICES["postgres"]["command"]


def test_the_pipeline_leads_to_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES["pycdc"]
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    config = require_capture(load(DEPLOY / "shop.yaml"))
    assert service["command"] == ["run", service["volumes"][0].split(":")[1]]
    dsn = conninfo_to_dict(config.source.postgres.dsn.get_secret_value())
    assert dsn["host"] in SERVICES
    assert dsn["dbname"] == SERVICES["postgres"]["environment"]["POSTGRES_DB"]
    kafka = config.sink.kafka
    assert kafka is not None
    assert kafka.registry is not None
    assert f"//{kafka.brokers}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].replace("INSIDE:", "")
    host, _, port = kafka.registry.url.split("/")[2].partition(":")
    assert SERVICES[host]["ports"][0].endswith(f":{port}")
    assert config.http.token is not None
    assert config.http.token.get_secret_value() == service["environment"]["PYCDC_HTTP_TOKEN"]


def test_docker_compose_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("`docker compose` is not installed; the file's form is checked by the other tests here")
    done = subprocess.run([docker, "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_registrys_health_check_recognises_a_registry(registry: Any) -> None:
    *shell, script = SERVICES["registry"]["healthcheck"]["test"][1:]
    host, port = re.search(r"//([^:/]+):(\d+)", registry.url).groups()  # type: ignore[union-attr]
    script = script.replace("$$", "$")
    alive = script.replace("127.0.0.1/8080", f"{host}/{port}")
    assert subprocess.run([*shell, alive], capture_output=True, timeout=20).returncode == 0
    missing = alive.replace("/apis/ccompat/v7/subjects", "/nothing/here")
    assert subprocess.run([*shell, missing], capture_output=True, timeout=20).returncode != 0
    closed = script.replace("127.0.0.1/8080", "127.0.0.1/1")
    assert subprocess.run([*shell, closed], capture_output=True, timeout=20).returncode != 0


# The sample


@pytest.fixture
def sample(database: str, postgres: Any) -> Iterator[str]:
    """The DSN of the sample's capture role, under a name of the test's own, in a database with the sample."""
    name = str(conninfo_to_dict(database)["dbname"])
    role = f"{name}_cdc"
    text = re.sub(r"\bcdc\b(?!')", role, (DEPLOY / "shop.sql").read_text(encoding="utf-8"))
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(text.encode())
        yield postgres.dsn(name, user=role, password="cdc")
        owner.execute(f"DROP OWNED BY {role}".encode())
        owner.execute(f"DROP ROLE {role}".encode())


def test_the_samples_role_has_the_rights_that_capture_needs(sample: str, database: str, tmp_path: Path) -> None:
    config = yaml.safe_load((DEPLOY / "shop.yaml").read_text(encoding="utf-8"))
    config["source"]["postgres"]["dsn"] = sample
    config |= {"sink": {"console": {}}, "offsets": {"file": {"path": "position"}}, "http": {"enabled": False}}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(config))
    load_text((tmp_path / "shop.yaml").read_text())
    command = [sys.executable, "-c", "import pycdc; pycdc.Pipeline('shop.yaml').run()"]
    with Program(command, tmp_path) as program, psycopg.connect(database, autocommit=True) as owner:

        def events() -> list[dict[str, Any]]:
            return [json.loads(line) for line in program.lines if line.startswith("{")]

        program.wait_until(lambda: len(events()) == 4)
        owner.execute("UPDATE orders SET status = 'paid' WHERE id = 1")
        program.wait_until(lambda: len(events()) == 5)
        paid = events()[-1]
    assert (paid["before"]["status"], paid["after"]["status"]) == ("new", "paid")


def test_the_image_installs_only_what_the_lock_files_pin_by_hash() -> None:
    """By version and hash, from no named host; and all that pyproject.toml asks for is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {"requirements.lock": project["project"]["dependencies"]}
    wanted["requirements-build.lock"] = project["build-system"]["requires"]
    for name, requirements in wanted.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert "index" not in text
        pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.M))
        entries = re.split(r"\n(?=\S)", text.strip())
        assert len(entries) == len(pinned)
        assert all("--hash=sha256:" in entry for entry in entries)
        for requirement in map(Requirement, requirements):
            version = pinned[requirement.name.lower().replace("_", "-")]
            assert requirement.specifier.contains(version), "run: make lock"
    runs = " ".join(rest for word, rest in instructions() if word == "RUN")
    installs = re.findall(r"pip (?:--python \S+ )?(?:install|wheel) ([^&]+)", runs)
    assert installs
    assert all("--require-hashes" in options or "--no-deps" in options for options in installs)
