from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.errors import SecretNotFoundError, ValidationError
from apflow.core.inputs import build_inputs
from apflow.core.secrets import is_secret_key, mask, quoted, redact, refuse_masked, resolve
from apflow.core.task import Task

KEY = 'p"ss wörd/+&%=\n1'


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_KEY", KEY)
    monkeypatch.setenv("APFLOW_SECRET_other", "second-secret")


def test_a_reference_becomes_the_secret_wherever_it_stands():
    value = {"a": {"$secret": "KEY"}, "b": [{"c": {"$secret": "other"}}, {"$secret": "KEY"}], "d": 1}
    before = json.dumps(value)
    resolved, clear = resolve(value)
    assert resolved == {"a": KEY, "b": [{"c": "second-secret"}, KEY], "d": 1}
    assert clear == [KEY, "second-secret"]
    assert json.dumps(value) == before


def test_a_name_is_also_looked_up_in_capitals():
    assert resolve([{"$secret": "key"}])[0] == [KEY]


@pytest.mark.parametrize(
    "value", [{}, {"a": 1}, {"a": [{"$secret": "KEY", "more": 1}]}, "x", None, {"a": "$secret"}]
)
def test_what_holds_no_reference_stays(value: object):
    assert resolve(value) == (value, [])


def test_a_secret_that_nobody_knows_is_an_error_that_says_what_to_set():
    with pytest.raises(SecretNotFoundError, match="APFLOW_SECRET_NOPE"):
        resolve({"a": {"$secret": "NOPE"}})


def test_a_provider_of_a_plugin_is_asked_when_the_environment_knows_nothing(install: Any):
    install(
        "vault", "vault = vault_provider:get", "get = {'DB': 'from-the-vault'}.get\n", group="apflow.secrets"
    )
    with pytest.raises(SecretNotFoundError):
        resolve([{"$secret": "OTHER"}])
    assert resolve([{"$secret": "DB"}, {"$secret": "KEY"}]) == (
        ["from-the-vault", KEY],
        ["from-the-vault", KEY],
    )


def test_a_name_that_is_no_text_is_refused_by_its_path():
    with pytest.raises(ValidationError, match=r"a\[0\]"):
        resolve({"a": [{"$secret": 5}]})


def test_what_a_hook_put_there_may_be_no_json():
    assert resolve({"s": {"x": {1}}, "k": [{"$secret": "KEY"}]})[0] == {"s": {"x": {1}}, "k": [KEY]}


def test_the_result_of_a_dependency_cannot_ask_for_a_secret():
    hostile = {"$secret": "KEY"}
    task = Task(
        id="t", name="t", root_id="t", dependencies=[{"id": "a", "required": True}],
        inputs={"mine": {"$secret": "KEY"}, "part": {"$from": "a", "path": "x"}, "all": {"$from": "a"}},
    )  # fmt: skip
    built = build_inputs(task, {"a": {"x": hostile, "list": [hostile]}}, {}, None)
    resolved, _ = resolve(built)
    whole = {"x": hostile, "list": [hostile]}
    assert resolved == {"mine": KEY, "part": hostile, "all": whole, "a": whole}
    assert type(resolved["part"]) is dict
    assert resolve(quoted(hostile)) == (hostile, [])


def basic(user: str) -> str:
    return base64.b64encode(f"{user}:{KEY}".encode()).decode()


@pytest.mark.parametrize(
    "leak",
    [
        KEY,
        f"before {KEY} after",
        json.dumps({"k": KEY}),
        json.dumps({"k": KEY}, ensure_ascii=False),
        json.dumps(json.dumps({"k": KEY})),
        quote(KEY),
        quote(KEY, safe=""),
        quote_plus(KEY),
        quote(KEY, safe="").replace("%2F", "%2f").replace("%C3", "%c3"),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
        f"Basic {basic('u')}",
        f"Basic {basic('us')}",
        f"Basic {basic('usr')}",
    ],
)
def test_a_secret_is_redacted_in_the_forms_that_programs_make_of_it(leak: str):
    shown = redact({"a": [leak]}, [KEY])["a"][0]
    assert "***" in shown
    assert KEY not in shown
    assert basic("x")[6:20] not in shown


def test_redacting_reaches_dicts_lists_keys_and_numbers():
    value = {"a": [{"b": "x12345678y"}], "12345678": 12345678, "n": 1, "t": True, "f": None}
    assert redact(value, ["12345678"]) == {"a": [{"b": "x***y"}], "***": "***", "n": 1, "t": True, "f": None}
    assert redact("token 12345678.", ["12345678"]) == "token ***."


@pytest.mark.parametrize("secret", [KEY, "12345678", "null,null", '",12345678', "nabcdefgh", "0001abcd"])
def test_a_large_value_is_redacted_as_a_small_one_is(secret: str):
    value = {
        "s": [f"a{secret}b", json.dumps(secret), {secret: None}],
        "n": [12345678, 1234567890, None, None, "x\\", 12345678],
        "t": ["\nabcdefgh", "\1abcd", "\\\nabcdefgh", "nabcdefgh"],
    }
    large = {**value, "filler": "x" * (1 << 16)}
    assert redact(large, [secret]) == {**redact(value, [secret]), "filler": large["filler"]}


def test_short_values_and_the_rest_stay_as_they_are():
    value = {"a": "short text"}
    assert redact(value, ["short"]) is value
    assert redact(value, []) is value
    assert redact(value, ["not there at all"]) is value


def test_the_longer_of_two_secrets_goes_first():
    assert redact("abcdefgh-abcdefghijkl", ["abcdefgh", "abcdefghijkl"]) == "***-***"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
clear_values = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="*\0"), min_size=8, max_size=20
)


@given(json_values, clear_values, st.text(max_size=9), st.text(max_size=9))
def test_no_secret_survives(value: object, secret: str, before: str, after: str):
    shown = redact({"v": value, "s": [before + secret + after], "k": {before + secret: secret}}, [secret])
    texts = [*shown["s"], *shown["k"], *shown["k"].values()]
    assert all("***" in text and secret not in text for text in texts)


@given(clear_values, st.binary(max_size=8), st.binary(max_size=8))
def test_no_base64_of_a_secret_survives(secret: str, before: bytes, after: bytes):
    text = base64.b64encode(before + secret.encode() + after).decode()
    assert "***" in redact(text, [secret])
    assert "***" in redact(text.translate(str.maketrans("+/", "-_")).rstrip("="), [secret])


def test_redacting_does_not_recurse():
    value: Any = "x secret-secret"
    for _ in range(5_000):
        value = [value]
    shown = redact(value, ["secret-secret"])
    for _ in range(5_000):
        shown = shown[0]
    assert shown == "x ***"


@pytest.mark.parametrize(
    "key",
    [
        "password", "Password", "DB_PASSWORD", "passphrase", "token", "auth_token", "accessToken", "api_key",
        "apiKey", "APIKey", "X-Api-Key", "x-api-key", "apikey", "Authorization", "proxy-authorization",
        "private_key", "privateKey", "secret", "client_secret", "clientSecret", "cookie", "Set-Cookie",
        "aws_secret_access_key", "token2", "JWTToken",
    ],
)  # fmt: skip
def test_these_keys_are_secret(key: str):
    assert is_secret_key(key)
    assert mask({key: "x"}) == {key: "***"}


@pytest.mark.parametrize(
    "key",
    [
        "token_usage", "max_tokens", "maxTokens", "tokenUsage", "tokens", "tokenizer", "secretary", "key",
        "api", "keyboard", "author", "name", "token_count", "api_keys_count", "", "public_key",
    ],
)  # fmt: skip
def test_these_keys_are_not(key: str):
    assert not is_secret_key(key)


def test_only_values_in_clear_are_masked():
    value = {
        "password": {"$secret": "DB"},
        "token": {"$from": "login", "path": "t"},
        "secret": None,
        "cookie": "",
        "headers": {"Authorization": "Bearer x", "Accept": "json"},
        "list": [{"api_key": 5}],
        "authorization": {"type": "bearer", "value": "x"},
    }
    assert mask(value) == {
        **value,
        "headers": {"Authorization": "***", "Accept": "json"},
        "list": [{"api_key": "***"}],
        "authorization": "***",
    }
    assert value["headers"]["Authorization"] == "Bearer x"  # type: ignore[index]


def test_writing_a_mask_back_is_refused_by_its_path():
    with pytest.raises(ValidationError) as raised:
        refuse_masked({"a": [{"apiKey": "***"}], "token": "***"}, "inputs")
    assert [each.split(":")[0] for each in raised.value.violations] == ["inputs.a[0].apiKey", "inputs.token"]
    refuse_masked({"text": "***", "password": "real"})


@given(json_values)
def test_masking_twice_is_masking_once(value: object):
    assert mask(mask(value)) == mask(value)
