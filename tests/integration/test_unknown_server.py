"""A server that is not in our table: there our boundary begins inside of OpenTelemetry's."""

from __future__ import annotations

from pathlib import Path

from support.served import serving

APPS = Path(__file__).parent / "apps"


def test_each_request_of_one_thread_has_a_trace_of_its_own(tmp_path: Path) -> None:
    """Falcon on cheroot: a server span with its route for each, which its record names."""
    with serving(tmp_path, APPS, "greeting", ("python", "{app}.py", "{port}")) as served:
        told = [served.told(served.ask(f"/hello/{number}")) for number in range(12)]
        assert {one.server.get("http.route") for one in told} == {"/hello/{name}"}
        assert {one.record["http.route"] for one in told} == {"/hello/{name}"}
        servers = served.items("traces")
        assert len({span.trace for span in servers}) == len(servers) == 12
        assert not any(span.form.get("parentSpanId") for span in servers)
        served.stop()
