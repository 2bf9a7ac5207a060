"""An app of several processes and the sidecar beside it: who ships, when one of them dies, what arrives."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

import orjson

from jwt_audit.ship.turn import Holder, holder
from support.receivers import COMMAND, running_shipper
from support.served import GUNICORN, Served, serving

FLASK = Path(__file__).parents[2] / "examples" / "flask"


def ships(served: Served, role: str, pid: int | None = None) -> None:
    """Wait until it is one of this role who ships."""

    def so() -> bool:
        found = holder(served.root / "spool") or Holder()
        return found.role == role and pid in (None, found.pid)

    served.wait(so)


def goes_on(served: Served) -> None:
    """Wait until more has arrived than now."""
    now = len(served.items("audit"))
    served.wait(lambda: len(served.items("audit")) > now)


def requests(served: Served) -> list[tuple[str, str]]:
    """Request id and record id of each request's record that arrived."""
    found = [one.attributes for one in served.items("audit") if one.form["eventName"] == "http.request"]
    return [(one["request.id"], one["audit.record.id"]) for one in found]


def verdict(path: Path) -> str:
    command = [*COMMAND, "verify", "--json", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return str(orjson.loads(found.stdout)["verdict"])


def test_the_app_leaves_shipping_to_a_sidecar_and_goes_on_when_that_dies(tmp_path: Path) -> None:
    """Started before the app, killed, started after it, told to end: always one ships, and all arrives once."""
    asked: list[str] = []
    stop = threading.Event()
    command = (*GUNICORN, "--workers", "2")
    (tmp_path / "spool").mkdir()
    with serving(tmp_path, FLASK, command=command, SHOP_SECRET="0" * 32, OTEL_TRACES_EXPORTER="none") as served:
        (url,) = re.findall(r"listening on (\S+),", (tmp_path / "sink.log").read_text())

        def ask() -> None:
            while not stop.wait(0.02):
                asked.append(served.ask("/healthz").id)

        client = threading.Thread(target=ask)
        client.start()
        try:
            ships(served, "app")
            with running_shipper(tmp_path / "spool", f"{url}/v1/audit") as sidecar:
                ships(served, "sidecar", sidecar.pid)
                goes_on(served)
                sidecar.send_signal(signal.SIGKILL)
                ships(served, "app")
            goes_on(served)
            with running_shipper(tmp_path / "spool", f"{url}/v1/audit") as sidecar:
                ships(served, "sidecar", sidecar.pid)
                sidecar.send_signal(signal.SIGTERM)
                assert sidecar.wait(60) == 0
                ships(served, "app")
        finally:
            stop.set()
            client.join()
        served.wait(lambda: set(asked) <= {request for request, _ in requests(served)})
        assert max(Counter(request for request, _ in set(requests(served))).values()) == 1
        assert len(asked) > 20
        served.stop()
    assert verdict(tmp_path / "spool") == "valid"
    assert verdict(tmp_path / "sink" / "audit.jsonl") == "valid"
