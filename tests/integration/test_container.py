"""The image recipe and the manifest: read, and run as far as that goes without an engine and a cluster.

The user has a uid without a name, no home and a directory that cannot be written, as in the image. It may
read everything, as what is in an image can be read by all: this Python may lie in somebody's closed home.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from jwt_audit.cli.main import main
from jwt_audit.settings.environment import load
from jwt_audit.settings.variables import PREFIX
from support.receivers import records, running_sink, until
from support.served import BIN, SECONDS, free_port

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "examples" / "container" / "Containerfile"
MANIFEST = ROOT / "examples" / "container" / "kubernetes.yaml"
UID = 65532
AS_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all,+dac_read_search"]
AS_USER += ["--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search", "--no-new-privs"]

other_user = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root, with setpriv, can run as another user"
)


def manifests() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text("utf-8"))}


def instructions() -> list[tuple[str, str]]:
    """The recipe's instructions, continued lines joined."""
    text = re.sub(r"\\\n", " ", IMAGE.read_text("utf-8"))
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]


def test_the_manifest_says_what_the_page_says() -> None:
    """Settings that exist, one volume and key for app and sidecar, no root, and only the spool can be written."""
    found = manifests()
    data = found["ConfigMap"]["data"]
    config, problems = load({name: value for name, value in data.items() if not name.endswith("SIGNING_KEY")})
    assert problems == []
    pod = found["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == UID
    (sidecar,), (app,) = pod["initContainers"], pod["containers"]
    assert sidecar["restartPolicy"] == "Always"
    for one in (sidecar, app):
        assert one["envFrom"] == [{"configMapRef": {"name": found["ConfigMap"]["metadata"]["name"]}}]
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
    assert sidecar["volumeMounts"] == app["volumeMounts"]
    places = {one["name"]: Path(one["mountPath"]) for one in app["volumeMounts"]}
    (claim,) = found["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert config.spool.is_relative_to(places[claim["metadata"]["name"]])
    assert config.spool_limit < int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) * 2**30
    assert Path(data[f"{PREFIX}SIGNING_KEY"]).is_relative_to(places["audit-key"])
    assert CliRunner().invoke(main, [*sidecar["command"][1:], "--help"]).exit_code == 0


def test_the_image_names_what_is_there() -> None:
    """Files that exist, the same user and spool as the manifest, and variables that are settings."""
    found = instructions()
    for name, rest in found:
        if name == "COPY" and not rest.startswith("--"):
            assert (ROOT / rest.split()[0]).exists()
    assert ("USER", f"{UID}:{UID}") in found
    variables = environment(Path("/var/lib/audit"))
    assert load(variables)[1] == []
    assert variables[f"{PREFIX}SPOOL"] == manifests()["ConfigMap"]["data"][f"{PREFIX}SPOOL"]


def environment(volume: Path) -> dict[str, str]:
    """What the recipe sets, with the volume elsewhere."""
    (env,) = (rest for name, rest in instructions() if name == "ENV")
    pairs = dict(item.split("=", 1) for item in env.split())
    return {name: value.replace("/var/lib/audit", str(volume)) for name, value in pairs.items()}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A directory of that user's own, below directories that all may pass."""
    for part in (tmp_path, *tmp_path.parents):
        if "pytest-" in str(part):  # what pytest has made, on one level more where it runs in parallel
            part.chmod(0o755)
    made = tmp_path / "volume"
    made.mkdir(mode=0o700)
    os.chown(made, UID, UID)
    return made


def command(volume: Path, port: int) -> list[str]:
    (line,) = (rest for name, rest in instructions() if name == "CMD")
    parts = [str(port) if part == "8000" else part for part in yaml.safe_load(line)]
    return [*AS_USER, str(BIN / parts[0]), *("127.0.0.1" if part == "0.0.0.0" else part for part in parts[1:])]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@other_user
def test_the_image_as_its_user(tmp_path: Path, volume: Path) -> None:
    """App, sidecar and commands: recorded on the volume, shipped, proved; nothing is complained of but the key."""
    port = free_port()
    with running_sink(tmp_path / "sink") as sink:
        env = environment(volume) | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "SHOP_SECRET": "0" * 32,
        }
        log = (tmp_path / "log").open("w+")
        shipper = [*AS_USER, str(BIN / "jwt-audit"), "ship"]
        processes = [
            subprocess.Popen(line, cwd="/proc", env=env | more, stdout=log, stderr=log)
            for line, more in (
                (shipper, {}),
                (command(volume, port), {"PYTHONPATH": str(ROOT / "examples" / "fastapi")}),
            )
        ]
        try:
            until(lambda: listening(port), SECONDS)
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=SECONDS).close()
            until(lambda: any(one.event == "http.request" for one in records(sink.audit())), SECONDS)

            def said(*words: str) -> str:
                line = [*AS_USER, str(BIN / "jwt-audit"), *words]
                found = subprocess.run(line, cwd="/proc", env=env, capture_output=True, text=True, timeout=SECONDS)
                assert found.returncode == 0, found.stdout + found.stderr
                return found.stdout

            assert "shipped by jwt-audit ship" in said("status")
            assert "/healthz" in said("tail")
            assert said("verify").startswith("valid")
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(SECONDS)
            log.seek(0)
            shown = log.read()
            log.close()
    assert f"recording requests in {volume / 'shop'}, sending records to {sink.url}/v1/logs" in shown
    complaints = [line for line in shown.splitlines() if line.startswith("jwt-audit: ")]
    assert {line for line in complaints if "recording requests" not in line and "by a key made in" not in line} == set()
    assert (volume / "shop").stat().st_uid == UID


@other_user
@pytest.mark.parametrize("mode", ["open", "closed"])
def test_where_nothing_can_be_written_the_start_says_so(tmp_path: Path, mode: str) -> None:
    """Before a request comes; with `closed` it is refused."""
    port = free_port()
    closed = tmp_path / "closed"
    closed.mkdir()
    env = environment(closed) | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "examples" / "fastapi"),
        "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
        f"{PREFIX}FAIL_MODE": mode,
        "SHOP_SECRET": "0" * 32,
    }  # fmt: skip
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command(closed, port), cwd="/proc", env=env, stdout=log, stderr=log)
        try:
            until(lambda: listening(port), SECONDS)
            shown = (tmp_path / "log").read_text("utf-8")
            what = "nothing is recorded" if mode == "open" else "every request is answered 503"
            assert re.search(rf"jwt-audit: {PREFIX}SPOOL: cannot make the spool .*until then {what}", shown)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == (200 if mode == "open" else 503)
            connection.close()
        finally:
            process.terminate()
            process.wait(SECONDS)
