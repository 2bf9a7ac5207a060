"""What is shipped for the Collector and its stores is whole, local, and speaks the names that records have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from jwt_audit import attributes as attr

DIRECTORY = Path(__file__).resolve().parents[2] / "collector-config"
DASHBOARDS = DIRECTORY / "grafana" / "dashboards"
KINDS = ("receivers", "processors", "exporters", "connectors")


def load(name: str) -> dict[str, Any]:
    content = yaml.safe_load((DIRECTORY / name).read_text("utf-8"))
    assert isinstance(content, dict)
    return content


def default(value: str) -> str:
    """What the Collector reads where the environment does not name something else."""
    return re.sub(r"\$\{env:\w+:-([^}]+)\}", r"\1", value)


@pytest.fixture(scope="module")
def gateway() -> dict[str, Any]:
    return load("gateway.yaml")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return load("compose.yaml")


def pipelines(gateway: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = gateway["service"]["pipelines"]
    return found


@pytest.mark.parametrize("path", sorted(DIRECTORY.rglob("*.yaml")), ids=lambda path: path.name)
def test_each_yaml_file_is_an_object(path: Path) -> None:
    """Every configuration file parses."""
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


@pytest.mark.parametrize("name", ["gateway.yaml", "jaeger.yaml"])
def test_each_component_is_declared_and_used(name: str) -> None:
    """No pipeline names a component that is not configured, and nothing is configured that no pipeline uses."""
    config = load(name)
    used: dict[str, set[str]] = {kind: set() for kind in KINDS}
    connectors = set(config.get("connectors", {}))
    for pipeline in pipelines(config).values():
        for kind in ("receivers", "processors", "exporters"):
            named = set(pipeline.get(kind, []))
            used[kind] |= named - connectors
            used["connectors"] |= named & connectors
    for kind in KINDS:
        assert set(config.get(kind, {})) == used[kind]
    assert set(config["extensions"]) == set(config["service"]["extensions"])


def test_audit_is_the_default_route(gateway: dict[str, Any]) -> None:
    """What no rule routes away, and what a rule fails on, goes where audit records go."""
    routing = gateway["connectors"]["routing/logs"]
    assert routing["default_pipelines"] == ["logs/audit"]
    assert routing["error_mode"] == "ignore"
    assert [rule["pipelines"] for rule in routing["table"]] == [["logs/app"]]
    assert "routing/logs" in pipelines(gateway)["logs/audit"]["receivers"]


def test_no_event_of_ours_is_routed_away(gateway: dict[str, Any]) -> None:
    """The rule's event names cover every event that this package writes, and its attributes exist."""
    (rule,) = gateway["connectors"]["routing/logs"]["table"]
    pattern = re.search(r'not IsMatch\(log\.event_name, "([^"]+)"\)', rule["condition"])
    assert pattern is not None
    events = [value for name, value in vars(attr).items() if name.startswith("EVENT_")]
    assert len(events) >= 11
    go_string = pattern[1].replace("\\\\", "\\")
    assert [event for event in events if not re.match(go_string, event)] == []
    assert re.match(go_string, "session.start") is None
    named = re.findall(r'log\.attributes\["([^"]+)"\] == nil', rule["condition"])
    assert named == [attr.RECORD_ID, attr.INTEGRITY_CANONICAL]


def test_an_acknowledged_audit_record_is_on_disk(gateway: dict[str, Any]) -> None:
    """Audit leaves through a synced queue that never drops and never gives up; nothing batches before it."""
    for name in pipelines(gateway)["logs/audit"]["exporters"]:
        exporter = gateway["exporters"][name]
        queue = exporter["sending_queue"]
        assert gateway["extensions"][queue["storage"]]["fsync"] is True
        assert queue["block_on_overflow"] is True
        assert exporter["retry_on_failure"] == {
            "enabled": True,
            "initial_interval": "1s",
            "max_interval": "30s",
            "max_elapsed_time": 0,
        }
    assert not any("batch" in name for name in gateway["processors"])


def test_memory_is_limited_first(gateway: dict[str, Any]) -> None:
    """Each pipeline that a receiver feeds refuses before memory runs out."""
    for pipeline in pipelines(gateway).values():
        if set(pipeline["receivers"]) & set(gateway["receivers"]):
            assert pipeline["processors"][0] == "memory_limiter"


def test_the_ports_are_the_usual_ones(gateway: dict[str, Any]) -> None:
    """OTLP on 4317 and 4318, audit on a path of its own on 4319."""
    receivers = gateway["receivers"]
    assert receivers["otlp"]["protocols"]["grpc"]["endpoint"].endswith(":4317")
    assert receivers["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    audit = receivers["otlp/audit"]["protocols"]["http"]
    assert audit["endpoint"].endswith(":4319")
    assert audit["logs_url_path"] == "/v1/audit"


def test_stores_are_named_as_compose_names_them(gateway: dict[str, Any], compose: dict[str, Any]) -> None:
    """The gateway and Grafana reach each store by its service's name."""
    addresses = [default(exporter["endpoint"]) for exporter in gateway["exporters"].values()]
    sources = load("grafana/provisioning/datasources/datasources.yaml")["datasources"]
    addresses += [source["url"] for source in sources]
    hosts = {re.sub(r"^https?://", "", address).partition(":")[0] for address in addresses}
    assert hosts <= set(compose["services"])


def test_every_published_port_is_on_loopback(compose: dict[str, Any]) -> None:
    """Nothing of the trial can be reached from another machine."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) >= 6
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_image_is_pinned(compose: dict[str, Any]) -> None:
    """Each image has a full version: what is tried today is what is tried next year."""
    images = [service["image"] for service in compose["services"].values()]
    assert [image for image in images if not re.fullmatch(r"[a-z/\-]+:\d+\.\d+\.\d+", image)] == []


def test_what_is_built_from_source_is_what_compose_runs(compose: dict[str, Any]) -> None:
    """The programs of `make collector` have the versions of the images, and every component is pinned by its lock."""
    tags = dict(one["image"].rpartition("/")[2].split(":") for one in compose["services"].values())
    manifest = load("programs/otelcol/builder.yaml")
    assert manifest["dist"]["version"] == tags["opentelemetry-collector-contrib"]
    lock = (DIRECTORY / "programs/otelcol/go.mod").read_text("utf-8")
    kinds = ("extensions", "receivers", "processors", "connectors", "exporters", "providers")
    modules = [component["gomod"] for kind in kinds for component in manifest[kind]]
    assert len(modules) >= 10
    assert [module for module in modules if f"\t{module}\n" not in lock] == []
    builder = (DIRECTORY / "programs/builder/go.mod").read_text("utf-8")
    assert f"go.opentelemetry.io/collector/cmd/builder v{manifest['dist']['version']} " in builder
    jaeger = (DIRECTORY / "programs/jaeger/go.mod").read_text("utf-8")
    (minor,) = re.findall(r"github\.com/jaegertracing/jaeger v1\.(\d+)\.0 ", jaeger)
    assert tags["jaeger"] == f"2.{int(minor) - 63}.0"  # each release has both numbers: v2.13.0 is v1.76.0


def test_every_component_of_the_gateway_is_built(gateway: dict[str, Any]) -> None:
    """The manifest has what the gateway names, the file exporter for exports, and nothing else."""
    manifest = load("programs/otelcol/builder.yaml")
    modules = {"health_check": "healthcheckextension", "file_storage": "filestorage", "otlp_http": "otlphttpexporter",
               "otlp_grpc": "otlpexporter", "memory_limiter": "memorylimiterprocessor", "routing": "routingconnector",
               "otlp": "otlpreceiver"}  # fmt: skip
    named = {name.partition("/")[0] for kind in ("extensions", *KINDS) for name in gateway[kind]}
    built = {
        component["gomod"].partition(" ")[0].rpartition("/")[2]
        for kind in ("extensions", *KINDS)
        for component in manifest[kind]
    }
    assert {modules[name] for name in named} | {"fileexporter"} == built


def test_make_collector_without_go_says_so(tmp_path: Path) -> None:
    """One line that tells what is missing; nothing is made."""
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "dirname", "cat", "cksum", "cut"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    environment = {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    script = str(DIRECTORY / "programs/build.sh")
    done = subprocess.run([script], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "collector: go was not found in PATH: Go 1.26 or newer is needed to build "
        "the Collector, Jaeger and VictoriaLogs\n"
    )
    assert not (tmp_path / "cache").exists()


def test_every_mounted_file_is_there(compose: dict[str, Any]) -> None:
    """A bind mount of a missing file would silently become an empty directory."""
    mounts = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert len(files) >= 5
    assert [name for name in files if not (DIRECTORY / name).exists()] == []
    named = {mount.split(":")[0] for mount in mounts} - set(files)
    assert named == set(compose["volumes"])


def test_docker_compose_accepts_the_file() -> None:
    """The real tool reads it without complaint."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed: not shown that it accepts collector-config/compose.yaml")
    command = [program, "-f", str(DIRECTORY / "compose.yaml"), "config", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def known_names() -> set[str]:
    """What a LogQL query may name: our attributes as Loki writes them, and Loki's own."""
    ours = {value.replace(".", "_") for name, value in vars(attr).items() if name.isupper() and isinstance(value, str)}
    return ours | {"event_name", "service_name", "trace_id", "span_id"}


def names_in(query: str) -> set[str]:
    """The labels that a LogQL query filters or groups by."""
    bare = re.sub(r'"[^"]*"|`[^`]*`', '""', query)
    grouped = re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", bare)
    compared = re.findall(r"([A-Za-z_]\w*)\s*(?:=~|!~|!=|>=|<=|=|>|<)", bare)
    return {name.strip() for group in grouped for name in group.split(",")} | set(compared)


def test_names_in_a_query_are_seen() -> None:
    """The reader of queries itself: filters, groups, and nothing out of strings."""
    query = 'sum by (a, b) (count_over_time({c=~"x=y"} | d="e" | f>=400 | g=~`h=i` [1m]))'
    assert names_in(query) == {"a", "b", "c", "d", "f", "g"}


@pytest.fixture(scope="module", params=sorted(DASHBOARDS.glob("*.json")), ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    content = json.loads(request.param.read_text("utf-8"))
    assert isinstance(content, dict)
    return content


def test_dashboard_queries_name_only_what_records_have(dashboard: dict[str, Any]) -> None:
    """A misspelt attribute would show an empty panel and no error."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 8
    unknown = {name: query for query in queries for name in names_in(query) - known_names()}
    assert unknown == {}
    events = {event for query in queries for event in re.findall(r'event_name="([^"]+)"', query)}
    assert events == {attr.EVENT_REQUEST}


def test_dashboard_columns_name_only_what_records_have(dashboard: dict[str, Any]) -> None:
    """The table of records takes its columns from attributes that exist."""
    paths = [
        column["path"]
        for panel in dashboard["panels"]
        for step in panel.get("transformations", [])
        for column in step["options"]["jsonPaths"]
    ]
    assert len(paths) >= 8
    assert set(paths) - known_names() == set()


def test_dashboard_asks_by_person_session_route_status_and_token(dashboard: dict[str, Any]) -> None:
    """Each of these is a variable, each variable is used, and no query uses one that is not there."""
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"service", "person", "session", "route", "status", "token"}
    queries = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    used = {name for name in re.findall(r"\$\{?(\w+)", queries) if not name.startswith("__")}
    assert used == variables


def test_dashboard_asks_the_sources_that_are_provisioned(dashboard: dict[str, Any]) -> None:
    """Every panel's data source is one of those that Grafana is given."""
    sources = load("grafana/provisioning/datasources/datasources.yaml")["datasources"]
    given = {(source["type"], source["uid"]) for source in sources}
    asked = {(panel["datasource"]["type"], panel["datasource"]["uid"]) for panel in dashboard["panels"]}
    assert asked <= given
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
