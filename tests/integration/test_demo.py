"""The main job, end to end, in real processes: what `make demo` shows is checked by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_demonstration_succeeds() -> None:
    """Both apps, good, expired, forged and no tokens: one record each, proved, and a changed byte found."""
    demo = Path(__file__).parents[2] / "examples" / "demo" / "run.py"
    said = subprocess.run([sys.executable, str(demo)], capture_output=True, text=True, timeout=100, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "The demonstration succeeded." in said.stdout
    assert "ceo" not in said.stdout
