"""What a run leaves and shows when it does not come to its end: no secret, whichever library speaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from flows.masked_log import masked_errors
from pipelines.planning.sealing import Secrets
from segflow.masking import hide_environment, hide_texts, open_text
from tests.flows.servers import asked, server
from tests.segflow.io.test_raster import SERVER

SECRET = "planted7Secret"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def host(making: Any) -> Iterator[str]:
    """A host that gives a raster to whoever asks, under a path that holds the secret; its name and port."""
    making.model()
    making.raster(f"open/tiles/{SECRET}/a.tif", shape=(1000, 1000))
    command = [sys.executable, "-c", SERVER, str(making.folder / "open")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def arguments(group: int) -> str:
    """The arguments of all processes of a group."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.getpgid(int(folder.name)) == group:
                found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_scene_that_was_killed_leaves_no_secret_and_its_processes_show_none_and_it_goes_on(
    making: Any, host: str, workers: int
) -> None:
    url = f"http://me:${{SECRET}}@{host}/tiles/${{SECRET}}/a.tif?X-Amz-Signature=${{SECRET}}"
    recipe = making.recipe(
        name="planted", inputs=[url], outputs={"folder": "out"}, compute={"workers": workers, "backend": "torch"}
    )
    command = [str(Path(sys.executable).with_name("segflow")), "run", str(recipe), "-v", "-v"]
    if not Path(command[0]).exists():
        command[:1] = [sys.executable, "-m", "flows.cli"]
    env = {**os.environ, "SECRET": SECRET}
    shared = {"cwd": making.folder, "env": env, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    out = making.folder / "out"
    with subprocess.Popen(command, start_new_session=True, **shared) as run:
        end = monotonic() + 120
        while not list(out.glob(".segflow/scenes/*/*/staging/*/c")):
            assert run.poll() is None
            assert monotonic() < end
            sleep(0.02)
        shown = arguments(run.pid)
        os.killpg(run.pid, signal.SIGKILL)
        told = run.communicate()[0]
    plans = list(out.glob(".segflow/scenes/*/*/plan.json"))
    assert len(plans) == 1
    assert "sealed-0" in plans[0].read_text()
    assert str(recipe) in shown
    for text in (told, shown.encode(), *(path.read_bytes() for path in out.rglob("*") if path.is_file())):
        assert SECRET.encode() not in text
    again = subprocess.run(command, **shared)
    assert again.returncode == 0, again.stdout
    assert SECRET.encode() not in again.stdout
    report = json.loads((out / "a_report.json").read_text())
    assert report["run"]["forwards"] >= report["run"]["forwards_minimum"]


def test_secrets_of_a_plan_are_told_apart_and_come_back() -> None:
    data = {
        "paths": ["https://h/a?sig=one1", "https://h/a?sig=two2", "/plain"],
        "n": [1, {"deep": "https://h/a?sig=one1"}],
    }
    secrets = Secrets.of(data)
    sealed = secrets.sealed(data)
    assert "one1" not in json.dumps(sealed) + repr(secrets)
    assert sealed["paths"][0] != sealed["paths"][1]
    assert secrets.opened(sealed) == data


RAISING = """
import sys, threading, warnings, logging
from flows.masked_log import mask_logs
mask_logs()
url = "postgresql://me:planted7Secret@h/x"
def psycopg():
    import psycopg
    psycopg.connect("postgresql://me:planted7Secret@127.0.0.1:9/x?connect_timeout=1")
def httpx():
    import httpx
    httpx.get("http://127.0.0.1:9/tiles?token=planted7Secret").raise_for_status()
def requests():
    import requests
    requests.get("http://me:planted7Secret@127.0.0.1:9/x?X-Amz-Signature=planted7Secret")
def gdal():
    import rasterio
    rasterio.open("/vsicurl/http://me:planted7Secret@127.0.0.1:9/x.tif?sig=planted7Secret")
def fsspec():
    import fsspec
    fsspec.open("sftp://me:planted7Secret@127.0.0.1:9/x").open()
def sqlalchemy():
    from sqlalchemy import create_engine
    create_engine("postgresql+psycopg://me:planted7Secret@127.0.0.1:9/x").connect()
def environment():
    import os
    raise ValueError("SignatureDoesNotMatch: " + os.environ["AWS_SECRET_ACCESS_KEY"])
def botocore():
    logging.basicConfig(level=logging.DEBUG)
    import botocore.session
    client = botocore.session.get_session().create_client("s3", region_name="x", endpoint_url="http://127.0.0.1:9")
    client.list_buckets()
def thread():
    def work():
        raise OSError(url)
    one = threading.Thread(target=work)
    one.start()
    one.join()
    raise OSError(url)
def warning():
    warnings.warn(url)
    raise OSError(url)
def chained():
    try:
        raise OSError(url)
    except OSError as error:
        raise RuntimeError("no") from error
globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize(
    "library",
    [
        *("psycopg", "httpx", "requests", "gdal", "fsspec", "sqlalchemy"),
        *("environment", "botocore", "thread", "warning", "chained"),
    ],
)
def test_an_error_that_nobody_catches_tells_no_secret(library: str) -> None:
    planted = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), SECRET)
    env = {**os.environ, **planted, "AWS_MAX_ATTEMPTS": "1"}
    command = [sys.executable, "-c", RAISING, library]
    found = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert found.returncode == 1
    assert "Traceback" in found.stderr
    assert SECRET not in found.stdout + found.stderr


def test_the_server_is_told_of_no_error_with_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "\n".join(
        (
            "import flows.prefect.flow",
            "from flows.masked_log import masked_errors",
            "from prefect import flow, task",
            "def stage():",
            "    try:",
            "        raise OSError('https://me:planted7Secret@h/x')",
            "    except OSError as error:",
            "        raise ValueError('no https://h/x?sig=planted7Secret') from error",
            "@flow(name='broken')",
            "@masked_errors()",
            "def broken():",
            "    task(masked_errors()(stage))()",
            "try:",
            "    broken()",
            "except Exception: pass",
        )
    )
    with server(tmp_path) as api:
        env = {**os.environ, "PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path / "home")}
        shown = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True)
        found = {what: asked(api, what) for what in ("flow_runs", "task_runs", "logs")}
    assert "ValueError: no https://h/x?sig=***" in json.dumps(found)
    assert SECRET not in json.dumps(found) + shown.stdout + shown.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []


def test_an_error_without_a_secret_stays_as_it_is() -> None:
    error = KeyError("x")

    @masked_errors()
    def work() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        work()
    assert caught.value is error


@pytest.mark.parametrize("written", [json.dumps, repr, lambda text: text, lambda text: f"<b>{text}</b>"])
def test_a_value_is_hidden_however_it_is_written(written: Any) -> None:
    hide_texts(['a"b\\c&d <é> \n'])
    assert "b\\" not in open_text(written('a"b\\c&d <é> \n'))


def test_the_environment_hides_what_is_named_for_a_secret_and_nothing_else() -> None:
    hide_environment(
        {
            "SOME_SAS": "sas-value-1",
            "GDAL_HTTP_USERPWD": "me:pwd-value-1",
            "MY_TOKEN": "tok-value-1",
            "PWD": "/home/somebody",
            "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token-1",
            "TOKENIZERS_PARALLELISM": "false-or-so",
            "SHORT_TOKEN": "true",
        }
    )
    shown = open_text("sas-value-1 me:pwd-value-1 tok-value-1 /home/somebody /var/run/token-1 false-or-so true")
    assert shown == "*** *** *** /home/somebody /var/run/token-1 false-or-so true"
