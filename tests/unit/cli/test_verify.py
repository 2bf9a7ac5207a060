"""`jwt-audit verify`: what an auditor sees, for good input and bad."""

from __future__ import annotations

import gzip
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from jwt_audit.cli.main import main
from jwt_audit.evidence.signing import Signer
from support.spools import LiveStream, make_stream
from vectors.make import DATA

COMMAND = [str(Path(sys.executable).with_name("jwt-audit")), "verify"]
VALID = DATA / "export-valid/audit.jsonl"
KEY = DATA / "key.pem"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def test_good_input_says_what_is_proved_and_by_whose_key() -> None:
    """Pinned, or on first use, which is said together with what to do about it."""
    said = run(VALID, "--key", KEY)
    assert said.exit_code == 0
    assert said.output.splitlines()[0] == "valid: 6 records in 1 stream, all under signed heads"
    assert "proved up to record 6; ended in order" in said.output
    assert "Trust: only heads of the keys given with --key count." in said.output
    assert "Trust: on first use." in run(VALID).output
    assert "--key FILE" in run(VALID).output


def test_several_copies_are_told_apart() -> None:
    """A stream is counted once, and each line says whose copy it is."""
    lines = run(DATA / "spool-valid/spool", VALID).output.splitlines()
    assert lines[0] == "valid: 18 records in 2 streams of 2 copies, all under signed heads"
    shown = [line.partition(" in ")[2] for line in lines if line.startswith("  valid ")]
    assert sorted(shown) == sorted([str(VALID), *[str(DATA / "spool-valid/spool")] * 2])


def test_an_open_tail_is_said_in_the_first_line(tmp_path: Path) -> None:
    """An auditor who reads one line must not miss it."""
    stream = LiveStream(tmp_path / "spool")
    stream.requests(2).head()
    stream.requests(2)
    said = run(tmp_path / "spool")
    stream.close()
    assert said.output.splitlines()[0] == (
        "valid: 5 records in 1 stream, up to record 3; 2 newer ones are not signed yet; "
        "1 stream without an end may go on"
    )
    assert run(DATA / "spool-killed/spool").exit_code == 2


def test_bad_input_names_the_first_bad_record_in_the_first_line() -> None:
    """And then where to look for it."""
    said = run(DATA / "spool-changed/spool")
    assert said.exit_code == 1
    assert said.output.splitlines()[0].endswith("the first at record 3 of 20261125T120000.000Z-101-00000001")
    assert "00000001.seg, line 3, byte " in said.output


def test_a_recovered_stream_names_the_one_that_found_it() -> None:
    """Though it has no end record."""
    assert "broke off there, as 20261125T120500.000Z-102-00000002 states" in run(DATA / "spool-recovered/spool").output


def test_refused_and_repeated_records_are_told() -> None:
    """They are no problem, and not hidden."""
    assert "1 record refused by the receiver" in run(DATA / "export-undelivered/audit.jsonl").output
    assert "3 records delivered twice" in run(DATA / "export-any-order/audit.jsonl").output


def test_long_lists_are_cut_and_say_so(tmp_path: Path) -> None:
    """Hundreds of streams, the bad ones first; many problems in one."""
    signer = Signer.generate()
    for number in range(25):
        make_stream(tmp_path / "spool", records=1, signer=signer, stream_id=f"s{number:02d}")
    bad = tmp_path / "spool/streams/s24/heads"
    bad.write_bytes(b"rubbish\n" * 12)
    lines = run(tmp_path / "spool").output.splitlines()
    assert "  and 3 more: bad_head 2, unsigned 1" in lines
    assert "  and 5 more; --json lists them" in lines
    assert lines[lines.index("Streams:") + 1] == "  invalid s24"


def test_quiet_prints_nothing() -> None:
    """The exit code tells."""
    for path, code in ((VALID, 0), (DATA / "spool-changed/spool", 1), (DATA / "spool-empty/spool", 2)):
        said = run(path, "--quiet")
        assert (said.output, said.exit_code) == ("", code)


def test_standard_input_is_an_export() -> None:
    """Also compressed."""
    content = VALID.read_bytes()
    for given, code in ((content, 0), (gzip.compress(content), 0), (b"", 2)):
        assert subprocess.run([*COMMAND, "-"], input=given, capture_output=True, check=False).returncode == code


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing"], "there is no missing"),
        (["empty"], "empty is neither a spool nor does it hold exported files"),
        (["text"], "text is no export: neither JSON nor OTLP (of a spool give the directory)"),
        (["image"], "image is no export: neither JSON nor OTLP (of a spool give the directory)"),
        (["zstd"], "zstd is compressed with zstd: give it as zstd -dc FILE | jwt-audit verify -"),
        (["/dev/null"], "/dev/null is neither a file nor a directory"),
        ([VALID, "--key", "missing"], "--key missing: cannot be read (No such file or directory)"),
        ([VALID, "--key", "empty"], "--key empty: cannot be read (Is a directory)"),
        ([VALID, "--key", "text"], "--key text: not a PEM public key"),
        ([VALID, "--key", "image"], "--key image: not a PEM public key"),
        ([VALID, "--key", "pipe"], "--key pipe: a named pipe, not a file"),
        ([VALID, "--key", "huge"], "--key huge: larger than any PEM key"),
        ([VALID, "--head", "missing"], "cannot read missing (No such file or directory)"),
        ([VALID, "--head", "text"], "text holds a line that is no signed head"),
        ([VALID, "--head", "pipe"], "pipe is a named pipe, not a file"),
        ([VALID, "--head", "nothing"], "nothing holds no signed head"),
        ([VALID, "--revoked", KEY, "soon"], "--revoked soon: no time in ISO 8601, such as 2026-11-25T12:00:00Z"),
        ([VALID, "--revoked", "text", "2026-11-25"], "--revoked text: not a PEM public key"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], told: str
) -> None:
    """With the option and the file, without a traceback; nothing waits for a pipe, nothing reads a disk image."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text").write_text("hello\n")
    Path("image").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    Path("zstd").write_bytes(b"\x28\xb5\x2f\xfd\0")
    Path("nothing").touch()
    with Path("huge").open("wb") as file:
        file.truncate(2**40)
    os.mkfifo("pipe")
    said = run(*arguments)
    assert said.exit_code == 2
    assert said.stderr == f"jwt-audit: {told}\n"
    assert said.stdout == ""


def test_no_permission_is_told(tmp_path: Path) -> None:
    """Of a file, of a directory, of a key, by the system's own word."""
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        if parent.stat().st_uid == os.geteuid() and str(parent) != "/tmp":
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    export, directory = tmp_path / "audit.jsonl", tmp_path / "closed"
    export.write_bytes(VALID.read_bytes())
    export.chmod(0)
    directory.mkdir()
    (directory / "streams").mkdir()
    directory.chmod(0)
    script = (
        "import os, sys\n"
        "from jwt_audit.cli import verify\n"  # before the rights are given up: the package may lie in a closed place
        "import jwt_audit.cli.report, jwt_audit.sources.inputs\n"
        "from jwt_audit.cli.main import main\n"
        "os.geteuid() or os.setuid(65534)\n"
        "main()"
    )
    for arguments, told in (
        ([export], f"cannot read {export} (Permission denied)"),
        ([directory], f"cannot read {directory} (Permission denied)"),
        ([VALID, "--key", export], f"--key {export}: cannot be read (Permission denied)"),
    ):
        line = [sys.executable, "-c", script, "verify", *map(str, arguments)]
        said = subprocess.run(line, capture_output=True, text=True, check=False)
        assert (said.returncode, said.stderr, said.stdout) == (2, f"jwt-audit: {told}\n", "")
    directory.chmod(0o700)


def test_a_private_key_given_as_key_is_used_by_half_and_told(tmp_path: Path) -> None:
    """An auditor should not have it; what is printed as the verdict stays as it is."""
    stream = LiveStream(tmp_path / "spool").end()
    private = tmp_path / "private.pem"
    private.write_bytes(stream.signer.pem)
    said = run(tmp_path / "spool", "--key", private, "--json")
    assert said.exit_code == 0
    assert orjson.loads(said.stdout)["trust"]["mode"] == "pinned"
    assert said.stderr == (
        f"jwt-audit: --key {private} is a private key: whoever has it can sign heads. Its public half is used; "
        f"give that to auditors (openssl pkey -in {private} -pubout)\n"
    )


def test_another_key_and_a_revoked_one() -> None:
    """Named by kind."""
    assert "unpinned_key" in run(VALID, "--key", DATA / "key-p256.pem").output
    assert "revoked_key" in run(VALID, "--revoked", KEY, "2026-11-25T11:00:00Z").output
    assert run(VALID, "--revoked", KEY, "2026-11-25T13:00:00").exit_code == 0
    assert run(VALID, "--revoked", KEY, "2026-11-25T13:00:00+02:00").exit_code == 1


def test_heads_kept_elsewhere_must_be_reached() -> None:
    """The file is as the spool has it."""
    directory = DATA / "spool-cut-with-heads"
    assert run(directory / "spool").exit_code == 2
    assert run(directory / "spool", "--head", directory / "kept-heads").exit_code == 1


def test_a_spool_shorter_than_its_export_is_invalid() -> None:
    """Both given together."""
    assert run(DATA / "spool-cut-with-heads/spool", VALID).exit_code == 1
    assert run(DATA / "spool-p256/spool", VALID).exit_code == 1, "two streams of one name, two histories"


def on_terminal(*arguments: object) -> tuple[int, str]:
    """The command with a terminal for all it prints."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # how Linux says that the other end has been closed
        pass
    os.close(leader)
    return process.wait(60), shown.decode()


def test_a_terminal_gets_colours_and_a_progress_bar(tmp_path: Path) -> None:
    """The bar is gone when the verdict comes."""
    path, _ = make_stream(tmp_path / "spool", records=3_000, head_every=500)
    code, shown = on_terminal(tmp_path / "spool")
    assert code == 0
    assert "reading" in shown
    assert "\x1b[32m\x1b[1mvalid" in shown
    assert "reading" not in shown[shown.index("valid") :]
    assert path.exists()


def test_a_pipe_gets_plain_text() -> None:
    """No escape sequence, nothing on standard error."""
    said = subprocess.run([*COMMAND, VALID], capture_output=True, check=False)
    assert (said.returncode, said.stderr) == (0, b"")
    assert b"\x1b" not in said.stdout


def test_the_machines_output_is_one_object_on_a_terminal_too() -> None:
    """No bar, no colours."""
    code, shown = on_terminal(VALID, "--json")
    assert code == 0
    assert orjson.loads(shown)["verdict"] == "valid"


def test_verifying_loads_no_opentelemetry_and_nothing_of_the_network() -> None:
    """It starts at once, and runs where none of it is installed."""
    code = (
        "import sys\n"
        "from jwt_audit.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "roots = {'opentelemetry', 'urllib3', 'jwt', 'starlette', 'uvicorn', 'google', 'rich', 'asyncio', 'ssl'}\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in roots))"
    )
    line = [sys.executable, "-c", code, "verify", "--quiet", str(VALID)]
    said = subprocess.run(line, capture_output=True, text=True, check=False)
    assert said.stderr == ""
    assert said.stdout == "[]\n"
