"""What opens a mirror is sent to it and to nobody else, and is in no file, no message and no list of processes."""

import base64
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psutil
import pytest
from conftest import ROOT
from mirrors import IRMAS_TEST1, copy_mirror
from server import Answer, Server

from tutti.datasets.addresses import Credentials
from tutti.pipelines.acquisition.http import HttpRules, fetch_file
from tutti.pipelines.acquisition.origins import Origins
from tutti.pipelines.build.__main__ import main

USER, PASSWORD = "ada", "S3cr/et pä@ss%w0rd"
TOKEN = "t0k+en/W1th=all"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def forms(secret: str) -> list[bytes]:
    """A secret as it is, percent-encoded, as JSON writes it, and in base64 at every offset."""
    raw = secret.encode()
    texts = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
    texts |= {json.dumps(secret)[1:-1], secret.encode("unicode_escape").decode()}
    packed = [base64.b64encode(b"x" * offset + raw)[4 if offset else 0 : -4] for offset in range(3)]
    return [*(text.encode() for text in texts), *packed, basic(USER, secret)[6:].encode()]


def leaks(secret: str, folders: list[Path], said: str) -> list[str]:
    """Where a secret stands, in any form."""
    wanted = forms(secret)
    places = [("said", said.encode("utf-8", "surrogateescape"))]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            places.append((str(path), str(path).encode()))
            if path.is_file():
                places.append((str(path), path.read_bytes()))
    return [f"{place}: {form!r}" for place, content in places for form in wanted if form in content]


@pytest.fixture
def server(sample_mirror: Path, tmp_path: Path):
    with Server() as running:
        running.serve_folder(copy_mirror(sample_mirror, tmp_path / "mirror"))
        yield running


def with_password(server: Server, password: str = PASSWORD, path: str = "") -> str:
    return f"http://{USER}:{quote(password, safe='')}@{server.host}{path}"


def arguments(mirror: str, folder: Path) -> list[str]:
    return [
        "--dataset", "irmas", "--limit", "12", "--embedder", "none", "--mirror", mirror,
        "--output", str(folder / "out"), "--cache-dir", str(folder / "cache"),
    ]  # fmt: skip


def command_lines(process: int, found: set[str], ended: threading.Event) -> None:
    """Collect what the list of processes shows of a build's children."""
    while not ended.wait(0.02):
        try:
            for child in psutil.Process(process).children(recursive=True):
                found.add(" ".join(child.cmdline()))
        except psutil.NoSuchProcess:
            continue


@pytest.mark.slow
def test_a_build_from_a_mirror_with_a_password_leaves_it_nowhere(server: Server, tmp_path: Path):
    server.protect(authorization=basic(USER, PASSWORD))
    flags = ["--direct-running-mode", "multi_processing", "--direct-num-workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.build", *arguments(with_password(server), tmp_path), *flags],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    seen: set[str] = set()
    ended = threading.Event()
    watch = threading.Thread(target=command_lines, args=(process.pid, seen, ended))
    watch.start()
    out, err = process.communicate(timeout=300)
    ended.set()
    watch.join()

    assert process.returncode == 0, err
    assert json.loads(out)["clips"]["kept"] > 0
    assert any("sdk_worker" in line for line in seen)
    assert leaks(PASSWORD, [tmp_path], out + err + "\n".join(seen)) == []
    asked = [request for request in server.requests if request.headers.get("authorization") is None]
    assert asked == []

    server.protect(authorization=basic(USER, "an0ther"))
    again = subprocess.run(
        [sys.executable, "-m", "pipelines.build", *arguments(with_password(server, "an0ther"), tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (again.returncode, json.loads(again.stdout)["changed"]) == (0, False), again.stderr
    assert leaks("an0ther", [tmp_path], again.stdout + again.stderr) == []


def test_a_token_in_the_query_is_sent_with_every_request_and_kept_nowhere(server: Server, tmp_path: Path, capsys):
    server.protect(query=f"token={quote_plus(TOKEN)}")

    code = main(arguments(f"{server.url}?token={quote_plus(TOKEN)}", tmp_path))

    said = capsys.readouterr()
    assert code == 0, said.err
    assert {request.query for request in server.requests} == {f"token={quote_plus(TOKEN)}"}
    assert leaks(TOKEN, [tmp_path / "out", tmp_path / "cache"], said.out + said.err) == []


def test_a_password_in_netrc_is_enough_and_is_kept_nowhere(server: Server, tmp_path: Path, capsys, monkeypatch):
    server.protect(authorization=basic(USER, "fromNetrc1"))
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password fromNetrc1\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    code = main(arguments(server.url, tmp_path))

    said = capsys.readouterr()
    assert code == 0, said.err
    assert leaks("fromNetrc1", [tmp_path / "out", tmp_path / "cache"], said.out + said.err) == []


def wrong_password(server: Server) -> None:
    server.protect(authorization=basic(USER, "of somebody else"))


def forbidden(server: Server) -> None:
    server.script("/SHA256SUMS", Answer(status=403))


def missing(server: Server) -> None:
    server.script(f"/{IRMAS_TEST1}", Answer(status=404))


def other_bytes(server: Server) -> None:
    server.script(f"/{IRMAS_TEST1}", Answer(body=b"PK\3\4 not what is listed"))


def hangs_up(server: Server) -> None:
    server.script(f"/{IRMAS_TEST1}", Answer(disconnect=True))


def asks_for_a_pause(server: Server) -> None:
    server.script(f"/{IRMAS_TEST1}", Answer(status=503, headers={"Retry-After": "9999"}))


def redirects(server: Server) -> None:
    target = f"https://{USER}:{quote(PASSWORD, safe='')}@elsewhere.example/?password={quote(PASSWORD)}"
    server.script(f"/{IRMAS_TEST1}", Answer(status=302, headers={"Location": target}))


def redirects_to_nonsense(server: Server) -> None:
    server.script("/SHA256SUMS", Answer(status=302, headers={"Location": f"http://[{quote(PASSWORD)}"}))


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (wrong_password, 75), (forbidden, 75), (missing, 2), (other_bytes, 3), (hangs_up, 74), (asks_for_a_pause, 75),
        (redirects, 75), (redirects_to_nonsense, 75),
    ],
)  # fmt: skip
def test_no_failure_tells_the_password(server: Server, tmp_path: Path, capsys, monkeypatch, fault: Any, code: int):
    monkeypatch.setattr("tutti.pipelines.acquisition.http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("TUTTI_DEBUG", "1")  # tracebacks too
    fault(server)

    ended = main(arguments(with_password(server), tmp_path))

    said = capsys.readouterr()
    assert ended == code, said.err
    assert f"http://{server.host}/" in said.err
    assert leaks(PASSWORD, [tmp_path / "cache", tmp_path / "out"], said.out + said.err) == []


@pytest.mark.parametrize(
    ("mirror", "named"),
    [
        (f"http://ada:{PASSWORD}@127.0.0.1:1/", "--mirror http://127.0.0.1:1/: is not an address"),
        (f"ftp://ada:{quote(PASSWORD, safe='')}@host/", "--mirror ftp://host/: no such folder"),
        (f"ada:{quote(PASSWORD, safe='')}@host/x", "--mirror host/x: no such folder"),
        (f"http:/ada:{quote(PASSWORD, safe='')}@host/", "--mirror http:/host/: no such folder"),
    ],
)
def test_a_wrong_address_is_named_without_its_password(tmp_path: Path, capsys, mirror: str, named: str):
    assert main(arguments(mirror, tmp_path)) == 2

    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert leaks(PASSWORD, [], said) == []
    assert named in said


def test_a_mistyped_flag_does_not_tell_what_it_was_given(tmp_path: Path, capsys):
    assert main([*arguments("sample", tmp_path), f"--mirorr=http://ada:{quote(PASSWORD, safe='')}@host/"]) == 2
    assert leaks(PASSWORD, [], capsys.readouterr().err) == []


def test_the_dry_run_and_every_repr_are_without_it(server: Server, tmp_path: Path, capsys):
    server.protect(authorization=basic(USER, PASSWORD))

    assert main([*arguments(with_password(server), tmp_path), "--dry-run"]) == 0
    assert leaks(PASSWORD, [tmp_path / "cache"], capsys.readouterr().out) == []
    origins = Origins(mirror=server.url, credentials=Credentials(USER, PASSWORD, f"t={TOKEN}"))
    rules = HttpRules(slots=None, credentials=origins.credentials)
    assert leaks(PASSWORD, [], f"{origins!r} {rules!r}") == leaks(TOKEN, [], f"{origins!r} {rules!r}") == []


def test_another_server_is_not_told_the_password(tmp_path: Path):
    with Server() as first, Server() as second:
        first.script("/a", Answer(status=302, headers={"Location": f"{second.url}/b"}))
        first.script("/c", Answer(status=302, headers={"Location": "/d"}))
        for server, path in ((first, "/d"), (second, "/b")):
            server.script(path, Answer(body=b"bytes"))
        rules = HttpRules(
            slots=tmp_path / "slots", hosts=(second.host,), credentials=Credentials(USER, PASSWORD, "token=abc")
        )
        fetch_file(f"{first.url}/a", tmp_path / "a", rules=rules)
        fetch_file(f"{first.url}/c", tmp_path / "c", rules=rules)

    assert [(one.path, one.headers.get("authorization"), one.query) for one in first.requests] == [
        (path, basic(USER, PASSWORD), "token=abc") for path in ("/a", "/c", "/d")
    ]
    assert [(one.path, one.headers.get("authorization"), one.query) for one in second.requests] == [("/b", None, "")]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes() == b"bytes"
