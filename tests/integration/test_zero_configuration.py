"""Ordinary apps with nothing of ours configured: their own verification is the identity of their requests."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest

from support.issuer import SigningKey, b64, claims, jwks, signing_key
from support.served import GUNICORN, UVICORN, Answer, Item, Served, Told, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
APPS = Path(__file__).parent / "apps"
SECRET = "0123456789abcdef0123456789abcdef"
CANARY = "canary-that-the-search-must-find"
OURS = SigningKey(SECRET.encode(), "HS256")
THEIRS = SigningKey(b"fedcba9876543210fedcba9876543210", "HS256")
DEBUG = {"OTEL_LOG_LEVEL": "debug", "OTEL_RESOURCE_ATTRIBUTES": f"planted={CANARY}"}


def live(**changes: Any) -> dict[str, Any]:
    """Claims that hold now."""
    now = int(time.time())
    return claims(**{"iss": None, "aud": None, "iat": now, "exp": now + 600, "token_type": "access", **changes})


def none_token(**changes: Any) -> str:
    return ".".join([b64(b'{"alg":"none"}'), b64(json.dumps(live(**changes)).encode()), ""])


def is_nobody(told: Told, status: str, reason: str | None, *, recorded: str | None = None) -> None:
    """Neither spans nor logs nor the record name anybody; all give the status, and the reason."""
    shown = [told.server, *told.spans.values(), *told.logs.values(), told.record]
    assert [found for found in shown if "enduser.id" in found or "session.id" in found] == []
    assert (told.record["audit.actor.id"], told.record["jwt.status"]) == ("anonymous", status)
    assert told.record.get("jwt.error") == (recorded or reason)
    assert (told.server["jwt.status"], told.server.get("jwt.error")) == (status, reason)


def is_person(told: Told, person: str, session: str | None = None) -> None:
    """Server span, later spans, logs and the record name this person, verified by the app, and no failure."""
    for found in (told.server, *told.spans.values(), *told.logs.values(), told.record):
        assert (found.get("enduser.id"), found["jwt.status"], found.get("jwt.error")) == (person, "verified", None)
        assert session is None or found["session.id"] == session
    assert told.record["audit.actor.id"] == person
    assert told.record["jwt.verified_by"] == "app"


@dataclass(frozen=True)
class Example:
    """An example, started as its README says: what is run, and where its orders are."""

    directory: str
    app: str
    command: tuple[str, ...]
    orders: str = "/orders"


SHOPS = {
    "fastapi": Example("fastapi", "app:app", UVICORN),
    "flask": Example("flask", "app:app", GUNICORN),
    "django-wsgi": Example("django", "wsgi:application", GUNICORN),
    "django-asgi": Example("django", "asgi:application", UVICORN),
    "starlette": Example("starlette", "app:app", UVICORN, "/shops/north/orders"),
}


class Shop(NamedTuple):
    """A running example, and the path of its orders."""

    served: Served
    orders: str


@pytest.fixture(scope="module", params=list(SHOPS))
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Each example, with nothing of ours configured; Django's instrumentation wants to know the settings."""
    example = SHOPS[request.param]
    environment = {**DEBUG, "SHOP_SECRET": SECRET, "DJANGO_SETTINGS_MODULE": "settings"}
    root, directory = tmp_path_factory.mktemp(request.param), EXAMPLES / example.directory
    with serving(root, directory, example.app, example.command, **environment) as served:
        yield Shop(served, example.orders)


def signed_in(shop: Shop, person: str) -> str:
    form = f"username={person}&password=secret"
    answer = shop.served.ask("/token", method="POST", body=form, Content_Type="application/x-www-form-urlencoded")
    assert answer.status == 200, answer.body
    assert shop.served.told(answer).record["jwt.status"] == "absent"
    return str(answer.json["access_token"])


def test_whoever_is_signed_in_is_on_everything(shop: Shop) -> None:
    """Server span, the span and the log record of afterwards, and the audit record."""
    token = signed_in(shop, "alice")
    said = jwt.decode(token, options={"verify_signature": False})
    told = shop.served.told(answer := shop.served.ask(shop.orders, token), spans=2, logs=1)
    assert answer.status == 200
    is_person(told, "alice", said.get("sid") or said["jti"])
    assert "list orders" in told.spans
    assert told.logs
    assert int(told.server["jwt.expires_at"]) == said["exp"]


def test_a_refused_token_gives_its_reason(shop: Shop) -> None:
    """Expired, by another key, with another algorithm or none, no token at all: nobody, and why."""
    cases = {
        OURS.sign(live(exp=int(time.time()) - 60, sid="s-1")): ("expired", "expired"),
        THEIRS.sign(live()): ("invalid", "signature_mismatch"),
        OURS.sign(live(), algorithm="HS384"): ("invalid", "algorithm_not_allowed"),
        none_token(sub="ceo"): ("invalid", "algorithm_not_allowed"),
        OURS.sign(live(nbf=int(time.time()) + 600)): ("not_yet_valid", "not_yet_valid"),
        "eyJ0.eyJ0.x": ("invalid", "malformed"),
        "opaque": ("unverified", "unsupported_token"),
    }
    for token, (status, reason) in cases.items():
        answer = shop.served.ask(shop.orders, token)
        assert answer.status in (401, 422)
        told = shop.served.told(answer)
        is_nobody(told, status, reason)
        if status == "expired":
            assert told.record["jwt.expired.subject"] == "u1001"


def test_a_token_that_the_app_does_not_look_at_stays_unverified(shop: Shop) -> None:
    """A page for anyone: the token is there, nobody has verified it."""
    answer = shop.served.ask(f"{shop.orders}/1", OURS.sign(live()))
    assert answer.status == 200
    is_nobody(shop.served.told(answer, spans=2, logs=1), "unverified", None, recorded="keys_unavailable")


def test_no_token_is_in_any_output(shop: Shop) -> None:
    """At DEBUG level, in what was sent, written and kept; the same search finds a planted word."""
    token, forged = signed_in(shop, "bob"), THEIRS.sign(live())
    for one in (token, forged):
        shop.served.told(shop.served.ask(shop.orders, one))
    everything = shop.served.everything()
    assert CANARY.encode() in everything
    for one in (token, forged):
        for part in one.split(".")[1:]:
            assert part.encode() not in everything
            assert base64.b64encode(part.encode()) not in everything


def test_a_token_in_a_url_is_on_no_span_and_in_no_record(shop: Shop) -> None:
    """OpenTelemetry's instrumentations write the whole URL on the server span. What a framework logs is its own."""
    token = OURS.sign(live())
    for url in (f"{shop.orders}?access_token={token}&page=2", f"/nothing/here/{token}?x={token}"):
        told = shop.served.told(shop.served.ask(url))
        assert "…" in "".join(map(str, told.server.values()))
    files = [shop.served.root / "sink" / "traces.jsonl", shop.served.root / "sink" / "audit.jsonl"]
    files += [file for file in (shop.served.root / "spool").rglob("*") if file.is_file()]
    for file in files:
        written = file.read_bytes()
        for part in token.split(".")[1:]:
            assert part.encode() not in written, file


@pytest.fixture(scope="module", params=["fastapi", "flask"])
def careless(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An app that handles tokens in ways that prove nobody; see apps/careless.py."""
    root = tmp_path_factory.mktemp("careless")
    work = shutil.copytree(APPS, root / "work")
    (work / "public.pem").write_bytes(signing_key().pem)
    command = UVICORN if request.param == "fastapi" else GUNICORN
    with serving(root, work, f"careless:{request.param}_app", command) as served:
        yield served


def accepted(careless: Served, way: str, token: str, **how: Any) -> Told:
    """What was told of a request that the app has served."""
    answer: Answer = careless.ask(f"/{way}", token, "POST", **how)
    assert answer.status == 200, careless.output()[-3000:]
    return careless.told(answer, spans=2, logs=1)


def test_what_is_proved_is_an_identity(careless: Served) -> None:
    """The same app, checking as it should."""
    is_person(accepted(careless, "checked", OURS.sign(live())), "u1001", "s-1")
    is_person(accepted(careless, "in_another_thread", OURS.sign(live())), "u1001", "s-1")
    is_person(accepted(careless, "by_public_key", signing_key().sign(live())), "u1001", "s-1")


def test_false_friends_name_nobody(careless: Served) -> None:
    """The app serves each of these requests; none of them proves who made it."""
    old = OURS.sign(live(exp=int(time.time()) - 60))
    is_nobody(accepted(careless, "expired_but_accepted", old), "expired", "expired")
    is_nobody(accepted(careless, "without_algorithm", old), "expired", "expired")
    is_nobody(accepted(careless, "without_algorithm", none_token(sub="ceo")), "invalid", "algorithm_not_allowed")
    for token in (OURS.sign(live()), THEIRS.sign(live()), none_token(sub="ceo")):
        is_nobody(accepted(careless, "looked_into", token), "unverified", None, recorded="keys_unavailable")


def test_a_token_from_the_body_is_not_the_callers(careless: Served) -> None:
    """A refresh token is verified; who calls is said by the header alone, which nobody verified here."""
    other = OURS.sign(live(sub="mallory"))
    told = accepted(careless, "checked", OURS.sign(live()), body=other)
    is_nobody(told, "unverified", None, recorded="keys_unavailable")
    answer = careless.ask("/checked", None, "POST", other)
    assert answer.status == 200
    is_nobody(careless.told(answer, spans=2, logs=1), "absent", None)


def test_a_public_key_is_no_secret(careless: Served) -> None:
    """HS256 by the PEM that everybody has, where the app would take both algorithms."""
    answer = careless.ask("/by_public_key", OURS.sign(live(sub="ceo")), "POST")
    assert answer.status == 401
    is_nobody(careless.told(answer), "invalid", "algorithm_not_allowed")


def test_of_two_tokens_the_one_that_the_app_verifies_counts(careless: Served) -> None:
    """An id token of somebody else in another header changes nothing, forged or good."""
    for other in (OURS.sign(live(sub="u2002")), THEIRS.sign(live(sub="u2002"))):
        is_person(accepted(careless, "checked", OURS.sign(live()), X_Id_Token=other), "u1001")


def test_people_with_numbers(tmp_path: Path) -> None:
    """flask-jwt-extended with integers: the decimal string is the identity, from a header and from a cookie."""
    with serving(tmp_path, APPS, "extended:app", GUNICORN) as served:
        login = served.ask("/login", method="POST")
        access, refresh = login.json["access_token"], login.json["refresh_token"]
        is_person(served.told(served.ask("/me", access), logs=1), "17")
        is_person(served.told(served.ask("/me", Cookie=f"a=b; access_token_cookie={access}"), logs=1), "17")
        # the refresh token in the body makes nobody of the caller; where an access token is due it is still proved
        answer = served.ask("/refresh", method="POST", body={"refresh_token": refresh})
        assert answer.status == 200
        is_nobody(served.told(answer), "absent", None)
        answer = served.ask("/me", refresh)
        assert answer.status == 422
        assert served.told(answer).record["enduser.id"] == "17"


def test_a_resource_protector_of_authlib(tmp_path: Path) -> None:
    """JWT access tokens by RFC 9068: verified by joserfc, judged by Authlib."""
    work = shutil.copytree(APPS, tmp_path / "work")
    key = signing_key()
    (work / "jwks.json").write_bytes(jwks(key.jwk("k1")))
    whole = {"iss": "https://as.example.com/", "aud": "api", "client_id": "shop", "scope": "orders"}

    def token(typ: str = "at+jwt", **changes: Any) -> str:
        return key.sign(live(**{**whole, **changes}), kid="k1", typ=typ)

    with serving(tmp_path, work, "protector:app", GUNICORN) as served:
        answer = served.ask("/orders", token())
        assert answer.status == 200, served.output()[-3000:]
        is_person(served.told(answer, logs=1), "u1001", "s-1")
        for refused, reason in (
            (token(aud="other"), "audience_mismatch"),
            (token(iss="https://other.example.com/"), "issuer_mismatch"),
            (token(typ="JWT"), "type_mismatch"),
            (token(client_id=None), "claim_missing"),
            (signing_key("RS256", 1).sign(live(**whole), kid="k1", typ="at+jwt"), "signature_mismatch"),
            (key.sign(live(**whole), kid="k2", typ="at+jwt"), "unknown_key"),
        ):
            answer = served.ask("/orders", refused)
            assert answer.status == 401
            is_nobody(served.told(answer), "invalid", reason)
        answer = served.ask("/orders", token(exp=int(time.time()) - 60))
        assert answer.status == 401
        is_nobody(served.told(answer), "expired", "expired")


def test_fastapi_users(tmp_path: Path) -> None:
    """Registered, signed in, served: by bearer token and by cookie."""
    with serving(tmp_path, APPS, "users:app") as served:
        registered = served.ask("/register", method="POST", body={"email": "a@example.com", "password": "long enough"})
        assert registered.status == 201, registered.body
        form = {"body": "username=a%40example.com&password=long+enough", "method": "POST"}
        how = {"Content_Type": "application/x-www-form-urlencoded"}
        token = served.ask("/auth/login", **form, **how).json["access_token"]
        for answer in (served.ask("/me", token), served.ask("/me", Cookie=f"fastapiusersauth={token}")):
            assert answer.status == 200
            is_person(served.told(answer, logs=1), "1")
        answer = served.ask("/me", THEIRS.sign(live(sub="1", aud=["fastapi-users:auth"])))
        assert answer.status == 401
        is_nobody(served.told(answer), "invalid", "signature_mismatch")


def test_simplejwt(tmp_path: Path) -> None:
    """djangorestframework-simplejwt: its people are the ``user_id`` of its tokens."""
    work = shutil.copytree(APPS / "simplejwt", tmp_path / "work")
    with serving(tmp_path, work, "wsgi:application", GUNICORN, DJANGO_SETTINGS_MODULE="settings") as served:
        answer = served.ask("/api/token/", method="POST", body={"username": "alice", "password": "secret"})
        assert answer.status == 200, served.output()[-3000:]
        is_nobody(served.told(answer), "absent", None)
        access, refresh = answer.json["access"], answer.json["refresh"]
        answer = served.ask("/me", access)
        assert answer.status == 200
        said = jwt.decode(access, options={"verify_signature": False})
        is_person(served.told(answer, logs=1), "1", said["jti"])
        answer = served.ask("/api/token/refresh/", method="POST", body={"refresh": refresh})
        assert answer.status == 200
        is_nobody(served.told(answer), "absent", None)
        for token, status, reason in (
            (OURS.sign({**said, "exp": int(time.time()) - 60}), "expired", "expired"),
            (THEIRS.sign(said), "invalid", "signature_mismatch"),
            (none_token(**said), "invalid", "algorithm_not_allowed"),
        ):
            answer = served.ask("/me", token)
            assert answer.status == 401
            is_nobody(served.told(answer), status, reason)


def test_the_tutorial_of_fastapi(tmp_path: Path) -> None:
    """Its tokens have a subject and an end, and no session."""
    with serving(tmp_path, APPS, "tutorial:app") as served:
        form = {"body": "username=johndoe&password=secret", "method": "POST"}
        answer = served.ask("/token", Content_Type="application/x-www-form-urlencoded", **form)
        assert answer.status == 200, served.output()[-3000:]
        answer = served.ask("/users/me/", answer.json["access_token"])
        assert (answer.status, answer.json["username"]) == (200, "johndoe")
        told = served.told(answer, logs=1)
        is_person(told, "johndoe")
        assert "session.id" not in told.record
        for token, status, reason in (
            (OURS.sign({"sub": "johndoe", "exp": int(time.time()) - 60}), "expired", "expired"),
            (THEIRS.sign({"sub": "johndoe"}), "invalid", "signature_mismatch"),
            (OURS.sign({"sub": "johndoe", "exp": "soon"}), "invalid", "claim_missing"),
        ):
            answer = served.ask("/users/me/", token)
            assert answer.status == 401
            is_nobody(served.told(answer), status, reason)


def test_many_at_once(shop: Shop) -> None:
    """240 concurrent requests of mixed people, expired and forged tokens: no mismatch on spans, logs and records."""
    past = int(time.time()) - 60
    people = [f"person-{number}" for number in range(60)]
    tokens = {}
    for number, name in enumerate(people):
        claimed = live(sub=name, sid=f"s-{name}", jti=f"s-{name}", **({"exp": past} if number % 4 == 2 else {}))
        tokens[name] = (THEIRS if number % 4 == 3 else OURS).sign(claimed)
    barrier, answers = threading.Barrier(len(people)), list[tuple[str, Answer]]()

    def work(name: str) -> None:
        barrier.wait()
        for _ in range(4):
            answers.append((name, shop.served.ask(shop.orders, tokens[name])))

    threads = [threading.Thread(target=work, args=(name,)) for name in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 240
    whose = {answer.id: name for name, answer in answers}

    def records() -> list[Item]:
        return [item for item in shop.served.items("audit") if item.attributes.get("request.id") in whose]

    shop.served.wait(lambda: len(records()) >= 240)
    traces = dict[str, str | None]()
    for item in records():
        person = whose[item.attributes["request.id"]]
        good = people.index(person) % 4 < 2
        traces[item.trace] = person if good else None
        assert item.attributes["audit.actor.id"] == (person if good else "anonymous")
        assert item.attributes.get("session.id") == (f"s-{person}" if good else None)
    assert len(traces) == 240

    def of_them(file: str) -> list[Item]:
        found = [item for item in shop.served.items(file) if item.trace in traces]
        return [item for item in found if not item.form.get("name", "").endswith((" http send", " http receive"))]

    shop.served.wait(lambda: len(of_them("traces")) >= 240 + 120 and len(of_them("logs")) >= 120)
    for item in of_them("traces") + of_them("logs"):
        assert item.attributes.get("enduser.id") == traces[item.trace], item
