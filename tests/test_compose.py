"""docker-compose.yml against the product: every command, variable, port and image it names must be there. No engine is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from harness.cli.app import app

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("build") == "."}
ROLES = {"router": "router", "incumbent": "lane:incumbent", "challenger": "lane:challenger", "joiner": "joiner", "analyst": "analyst",
         "controller": "controller"}  # fmt: skip


def parsed(words):
    """The parameters of a `shadow` command line, read as the product would. Raises click's error for one it would refuse."""
    command = get_command(app)
    name, *rest = words
    return command.commands[name].make_context(name, [str(word) for word in rest], resilient_parsing=False).params


def test_every_role_has_its_service():
    """Bus, store, all roles, the page of answers, and the demo's source."""
    assert {"kafka", "redis", "prepare", "source", "api", *ROLES} == set(SERVICES)


@pytest.mark.parametrize("name", [*ROLES, "api"])
def test_a_service_runs_one_role_on_the_same_bus_and_store(name):
    """The command line is one that the product accepts, and all meet on one bus and in one store."""
    found = parsed(SERVICES[name]["command"])
    assert found["roles"] == ROLES.get(name, name)
    assert (found["bus"], found["store"], str(found["config_file"])) == ("kafka://kafka:9092", "redis://redis:6379/0", "/data/rollout.yaml")


@pytest.mark.parametrize("name", sorted(ROLES))
def test_the_health_check_of_a_role_asks_for_that_role(name):
    """A check that asks for another role would call a dead one healthy."""
    kind, program, *words = SERVICES[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "shadow")
    assert (parsed(words)["role"], parsed(words)["store"]) == (ROLES[name], "redis://redis:6379/0")


def test_the_api_is_published_on_the_loopback_only_on_the_port_it_listens_on():
    """Nobody outside the machine reaches the API unless an operator says so."""
    assert SERVICES["api"]["ports"] == ["127.0.0.1:8686:8686"]
    assert parsed(SERVICES["api"]["command"])["listen"].endswith(":8686")


@pytest.mark.parametrize("name", ["prepare", "source"])
def test_the_demo_services_are_programs_that_take_their_arguments(name):
    """`python -m MODULE --help` of the entrypoint works, and names each option that the service gives."""
    python, flag, module = SERVICES[name]["entrypoint"]
    assert (python, flag) == ("python", "-m")
    help_text = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(option in help_text for option in SERVICES[name]["command"] if str(option).startswith("--"))


def test_images_are_pinned_to_a_version():
    """What runs tomorrow is what was tested today; our own image carries the version of the project."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    for name, service in SERVICES.items():
        image, _, tag = service["image"].partition(":")
        assert re.match(r"\d+\.\d+", tag), name
        assert image != "shadow-harness" or tag == version[1]
    assert re.search(r"^FROM python:3\.\d+-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_every_variable_of_ours_is_read_by_the_product():
    """A variable that nothing reads is a promise that nothing keeps."""
    code = "".join(path.read_text() for path in (ROOT / "harness").rglob("*.py"))
    for service in OURS.values():
        for variable in service["environment"]:
            assert f'"{variable}"' in code, variable


def test_volumes_and_dependencies_exist():
    """Names that are used are names that are declared."""
    for service in SERVICES.values():
        assert all(volume.partition(":")[0] in COMPOSE["volumes"] for volume in service.get("volumes", []))
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert all(condition["condition"] in ("service_healthy", "service_completed_successfully") and
                   ("healthcheck" in SERVICES[other] or condition["condition"] != "service_healthy")
                   for other, condition in service.get("depends_on", {}).items())  # fmt: skip


def test_docker_compose_accepts_it():
    """Where there is a docker with compose it reads the file itself."""
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no `docker compose` on this machine: the other tests of this file still hold")
    subprocess.run(["docker", "compose", "config", "--quiet"], cwd=ROOT, check=True)
