"""Who may use which secret: every subject against every kind of grant, and the policies that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apflow.core.errors import SecretHostRefusedError, SecretRefusedError, SettingsError
from apflow.core.model.task import Task
from apflow.core.net.connect import resolve as resolve_host
from apflow.core.payload.secrets import SecretNotFoundError, find_secret, resolve
from apflow.core.permissions.origin import Origin, authors_of, check_host, with_author, working_for
from apflow.core.permissions.secret_policy import Author, Permission, read_policy, secret_policy
from apflow.core.settings import reset_settings

BOB, EVE, BILLING = Author("bob"), Author("eve"), Author("cy", ("billing",))
ADMIN = Author("root", ("admin",))
NO_POLICY: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_PAY_KEY", "value of pay key")


def is_permitted(policy: dict[str, Any], *authors: Author, executor: str = "rest_executor") -> bool:
    """Return whether a tree of these authors may use PAY_KEY. Without authors, it is a local tree."""
    try:
        read_policy(policy, "policy").permit("PAY_KEY", authors or None, executor)
    except SecretRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("policy", "permitted"),
    [
        (NO_POLICY, [ADMIN]),
        ({"PAY_KEY": {"users": ["bob"]}}, [ADMIN, BOB]),
        ({"pay-key": {"users": "bob"}}, [ADMIN, BOB]),
        ({"PAY_*": {"users": ["bob"]}}, [ADMIN, BOB]),
        ({"PAY_KEY": {"roles": ["billing"]}}, [ADMIN, BILLING]),
        ({"PAY_KEY": [{"roles": ["billing"]}, {"users": ["eve"]}]}, [ADMIN, BILLING, EVE]),
        ({"PAY_KEY": {"users": ["*"]}}, [ADMIN, BOB, EVE, BILLING]),
        ({"PAY_KEY": {"hosts": ["example.com"]}}, [ADMIN]),
        ({"PAY_KEY": {"users": ["bob"], "executors": ["rest_executor"]}}, [ADMIN, BOB]),
        ({"PAY_KEY": {"users": ["bob"], "executors": ["ssh_*"]}}, []),
        ({"OTHER": {"users": ["*"]}}, [ADMIN]),
    ],
)
def test_who_may_use_a_secret(policy: dict[str, Any], permitted: list[Author]):
    for author in (ADMIN, BOB, EVE, BILLING):
        assert is_permitted(policy, author) is (author in permitted), author
    is_bound = permitted == []
    assert is_permitted(policy) is not is_bound, "this machine is a subject like an administrator"


def test_a_tree_may_use_what_all_of_its_authors_may_use():
    policy = {"PAY_KEY": [{"users": ["bob"]}, {"users": ["eve"]}]}
    assert is_permitted(policy, BOB, EVE)
    assert is_permitted(policy, ADMIN, BOB)
    assert not is_permitted(policy, BOB, BILLING)
    assert not is_permitted(NO_POLICY, ADMIN, BOB)


def test_the_hosts_of_several_grants_add_up_and_those_of_several_authors_do_not():
    grants = [
        {"users": ["bob"], "hosts": ["a.example", "b.example"]},
        {"users": ["eve"], "hosts": ["b.example"]},
    ]
    policy = read_policy({"PAY_KEY": grants}, "policy")
    assert policy.permit("PAY_KEY", (BOB,), "rest_executor").hosts == ("a.example", "b.example")
    assert policy.permit("PAY_KEY", (BOB, EVE), "rest_executor").hosts == ("b.example",)
    assert policy.permit("PAY_KEY", None, "rest_executor").hosts == ("a.example", "b.example")


def test_an_executor_that_may_send_anywhere_gets_no_secret_bound_to_hosts():
    policy = read_policy({"PAY_KEY": {"users": ["bob"], "hosts": ["a.example"]}}, "policy")
    with pytest.raises(SecretRefusedError, match="cannot be kept from sending"):
        policy.permit("PAY_KEY", (BOB,), "command_executor", can_bind=False)
    named = {"PAY_KEY": {"users": ["bob"], "hosts": ["a.example"], "executors": ["command_executor"]}}
    assert read_policy(named, "policy").permit("PAY_KEY", (BOB,), "command_executor", can_bind=False)


@pytest.mark.parametrize(
    ("entry", "host", "port", "is_allowed"),
    [
        ("example.com", "example.com", 443, True),
        ("example.com", "EXAMPLE.com.", 443, True),
        ("example.com", "api.example.com", 443, False),
        ("example.com", "example.com.evil.net", 443, False),
        ("*.example.com", "api.example.com", 443, True),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "badexample.com", 443, False),
        ("example.com:443", "example.com", 443, True),
        ("example.com:443", "example.com", 8443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("127.0.0.1:80", "127.0.0.1", 81, False),
        ("127.0.0.1", "127.1", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:80", "::1", 81, False),
        ("*", "anything.example", 80, True),
    ],
)
def test_which_host_an_entry_means(entry: str, host: str, port: int, is_allowed: bool):
    read_policy({"X": {"hosts": [entry]}}, "policy")
    assert Permission((entry,)).allows_host(host, port) is is_allowed


async def test_a_task_that_holds_a_bound_secret_connects_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_POLICY", '{"PAY_KEY": {"users": ["bob"], "hosts": ["127.0.0.1:80"]}}')
    origin = Origin((BOB,), "rest_executor", can_bind=True)
    with working_for(origin):
        assert len(await resolve_host("127.0.0.1", 81)) == 1, "it holds none yet"
        resolve({"token": {"$secret": "PAY_KEY"}}, origin.permit)
        assert len(await resolve_host("127.0.0.1", 80)) == 1
        for host, port in (("127.0.0.1", 81), ("127.0.0.2", 80), ("localhost", 80)):
            with pytest.raises(SecretHostRefusedError, match=r"PAY_KEY.*only for 127\.0\.0\.1:80"):
                await resolve_host(host, port)
    check_host("anywhere.example", 80)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "neither JSON nor TOML"),
        ('{"A": 1}', "A must be a grant"),
        ('{"A": {"user": ["bob"]}}', "unknown key 'user'"),
        ('{"A": {"users": []}}', "A.users is empty"),
        ('{"A": {"users": [1]}}', "A.users must be a list of names"),
        ('{"A": {"hosts": ["https://x.example/"]}}', "neither a host"),
        ('{"A": {"hosts": ["10.0.0.0/99"]}}', "neither a host"),
        ("/no/such/policy.toml", "cannot be read"),
    ],
)
def test_a_policy_that_cannot_be_used_is_an_error_that_says_what(
    text: str, fault: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_POLICY", text)
    with pytest.raises(SettingsError, match=fault):
        secret_policy()


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_a_policy_is_read_from_a_file_and_again_when_that_changes(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / f"policy{suffix}"
    forms = {".json": json.dumps({"PAY_KEY": {"users": ["bob"]}}), ".toml": '[PAY_KEY]\nusers = ["bob"]\n'}
    path.write_text(forms[suffix])
    monkeypatch.setenv("APFLOW_SECRET_POLICY", str(path))
    assert secret_policy().permit("PAY_KEY", (BOB,), "x") == Permission(None)
    path.write_text(forms[suffix].replace("bob", "evelyn"))
    with pytest.raises(SecretRefusedError, match="'bob' is not granted"):
        secret_policy().permit("PAY_KEY", (BOB,), "x")


def test_the_policy_itself_is_no_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_POLICY", "{}")
    for name in ("POLICY", "policy"):
        with pytest.raises(SecretNotFoundError):
            find_secret(name)


def test_a_name_that_spells_the_variable_otherwise_is_the_same_secret():
    policy = read_policy({"PAY_KEY": {"users": ["bob"], "executors": ["rest_executor"]}}, "policy")
    for name in ("PAY_KEY", "pay_key", "pay-key", "Pay.Key"):
        assert find_secret(name) == "value of pay key"
        with pytest.raises(SecretRefusedError):
            policy.permit(name, (ADMIN,), "command_executor")


def test_a_refused_secret_is_not_looked_up():
    origin = Origin((BOB,), "rest_executor")
    shown: set[str] = set()
    for name in ("PAY_KEY", "NOT_SET"):
        with pytest.raises(SecretRefusedError) as caught:
            resolve([{"$secret": name}], origin.permit)
        shown.add(str(caught.value).replace(name, ""))
    assert len(shown) == 1, "a refusal does not tell whether there is such a secret"


def test_who_wrote_a_tree():
    local, stored = Task("r", "r", "r"), Task("r", "r", "r", user_id="bob")
    assert authors_of(local) is None
    assert authors_of(stored) is None
    stored.written_by = with_author(stored, ADMIN)
    assert authors_of(stored) == (ADMIN,)
    stored.written_by = with_author(stored, BOB)
    assert authors_of(stored) == (ADMIN, BOB)
    assert with_author(stored, BOB) == stored.written_by
    assert with_author(stored, None) == stored.written_by
    assert with_author(local, None) is None


def test_a_tree_older_than_authors_is_its_users_own_where_there_are_tokens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_JWT_SECRET", "x" * 32)
    reset_settings()
    try:
        assert authors_of(Task("r", "r", "r", user_id="bob")) == (BOB,)
        assert authors_of(Task("r", "r", "r")) is None
    finally:
        monkeypatch.undo()
        reset_settings()
