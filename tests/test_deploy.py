"""What cannot be built in a test is linted, and held against the rules that servers and secrets go by."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.servers import LEASES

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_holds_every_package_of_the_project() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    packages = {path.parent.name for path in DEPLOY.parent.glob("*/__init__.py")} - {"benchmarks", "tests"}
    assert copied == packages


def test_the_image_leaves_the_whole_command_to_the_workers_of_pools() -> None:
    """Docker and Kubernetes workers give `prefect flow-run execute`, which an ENTRYPOINT would come before."""
    text = (DEPLOY / "Dockerfile").read_text()
    assert not re.search("^ENTRYPOINT", text, re.MULTILINE)
    commands = {name: item["command"][0] for name, item in compose()["services"].items() if item["image"] == "segflow"}
    assert commands == {"server": "prefect", "nightly": "segflow"}


def test_the_image_has_the_libraries_that_wheels_leave_to_the_system() -> None:
    import rasterio

    slim = r"lib(c|m|dl|rt|pthread|z|gcc_s|stdc\+\+)\.so"  # of the base image
    own = Path(rasterio.__file__).parents[1] / "rasterio.libs"
    bundled, needed = {path.name for path in own.iterdir()}, set()
    for library in own.glob("*.so*"):
        listed = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
        needed |= {line.split()[0] for line in listed.splitlines() if "=>" in line}
    missing = {name for name in needed - bundled if not re.match(slim, name)}
    packages = {f"{name.split('.so.')[0]}{name.split('.so.')[1]}" for name in missing}
    installed = re.search(r"apt-get install .*?recommends (.+?) \\", (DEPLOY / "Dockerfile").read_text())
    assert installed is not None
    assert packages <= set(installed[1].split())


def test_a_service_may_write_where_its_named_volumes_are() -> None:
    text, loaded = (DEPLOY / "Dockerfile").read_text(), compose()
    mounts = [
        mount for item in loaded["services"].values() if item["image"] == "segflow" for mount in item.get("volumes", ())
    ]
    places = [place for name, _, place in (mount.partition(":") for mount in mounts) if name in loaded["volumes"]]
    assert places  # a named volume is owned as the image's folder is, or by root where there is none
    assert all(re.search(rf"install --directory --owner segflow.* {place}\b", text) for place in places)


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "--host 127.0.0.1" in (DEPLOY / "systemd" / "segflow-server.service").read_text()


def test_a_server_that_is_killed_remembers_who_holds_a_slot() -> None:
    setting = f"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE={LEASES}"
    for name in ("local.sh", "systemd/segflow-server.service"):
        assert setting in (DEPLOY / name).read_text()
    server = compose()["services"]["server"]
    assert server["environment"]["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == LEASES
    assert server["volumes"] == [f"state:{server['environment']['PREFECT_HOME']}"]


def test_a_servers_database_does_not_grow_for_ever() -> None:
    from prefect.settings.models.server.services import ServerServicesDBVacuumSettings

    setting = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"
    for name in ("local.sh", "systemd/segflow-server.service"):
        assert f"{setting}=events,flow_runs" in (DEPLOY / name).read_text()
    assert f"{setting}=events,flow_runs" in (DEPLOY.parent / "docs" / "operations.md").read_text()
    value = compose()["services"]["server"]["environment"][setting]
    assert ServerServicesDBVacuumSettings(enabled=value).enabled_vacuum_types == {"events", "flow_runs", "orphans"}


def test_a_server_that_systemd_starts_again_ends_no_run_that_goes_on() -> None:
    """Who requires a unit is restarted with it, also when it has crashed (systemd.unit, Requires=)."""
    unit = (DEPLOY / "systemd" / "segflow@.service").read_text()
    assert "Wants=segflow-server.service" in unit
    assert not re.search("^(Requires|BindsTo|PartOf)=", unit, re.MULTILINE)


@pytest.mark.parametrize("ours", [True, False])
def test_down_ends_what_up_has_started_and_not_who_has_its_number_now(ours: bool, tmp_path: Path) -> None:
    for folder in ("deploy", "demo/service", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    script = shutil.copy(DEPLOY / "local.sh", tmp_path / "deploy")
    sleeper = shutil.copy(shutil.which("sleep") or "", tmp_path / ".venv" / "bin") if ours else "sleep"
    with subprocess.Popen([sleeper, "60"], start_new_session=True) as process:
        try:
            pid = tmp_path / "demo" / "service" / "served.pid"
            pid.write_text(f"{process.pid}\n")
            subprocess.run(["bash", script, "down"], check=True, capture_output=True, timeout=30)
            assert (process.poll() is not None) == ours
            assert not pid.exists()
        finally:
            process.kill()


def test_secrets_come_from_the_environment() -> None:
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY", name):
                assert value.startswith("${")
            assert not re.search(r"://[^/@\s]+:(?!\$\{)[^/@\s]+@", value)


def test_services_that_depend_on_each_other_are_there() -> None:
    services = compose()["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert service["restart"] == "unless-stopped"


def composed(**env: str) -> subprocess.CompletedProcess[str]:
    command = ["docker-compose", "-f", str(DEPLOY / "compose.yaml"), "config"]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, check=False)


@pytest.mark.system
def test_compose_takes_the_file_and_asks_for_what_it_needs() -> None:
    given = {"DATABASE_PASSWORD": "planted", "RECIPES": "/srv/recipes", "SCENES": "/srv/scenes"}
    found = composed(**given)
    assert found.returncode == 0, found.stderr
    loaded = yaml.safe_load(found.stdout)
    assert set(loaded["services"]) == {"database", "server", "nightly"}
    assert loaded["services"]["nightly"]["volumes"][0] == "/srv/recipes:/recipes:ro"
    for name in given:
        refused = composed(**{key: value for key, value in given.items() if key != name})
        assert refused.returncode != 0
        assert name in refused.stderr


@pytest.mark.system
@pytest.mark.parametrize("unit", sorted(path.name for path in (DEPLOY / "systemd").iterdir()))
def test_systemd_takes_the_units(unit: str, tmp_path: Path) -> None:
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text().replace("/opt/segflow/bin/prefect", "/bin/true")
        (tmp_path / path.name).write_text(text.replace("/opt/segflow/bin/segflow", "/bin/true"))
    name = unit.replace("@.", "@nightly.")
    command = ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", tmp_path / name]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.strip()) == (0, "")
