from __future__ import annotations

import base64
import html
import json
import re
import shlex
import string
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from apflow.core.errors import SecretNotFoundError, ValidationError
from apflow.core.model.task import Task
from apflow.core.payload.inputs import build_inputs
from apflow.core.payload.secrets import is_secret_key, mask, quoted, redact, refuse_masked, resolve
from apflow.core.process.captured_output import TAIL_BYTES, Output

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


def test_the_error_for_an_unknown_secret_names_the_setting():
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


def test_a_name_that_is_not_a_string_is_rejected_with_its_path():
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


def bare_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


# Each is a way in which a program may show a secret, alone or within other text.
NOTATIONS: dict[str, Callable[[str], str]] = {
    "as it is": lambda s: s,
    "stripped": lambda s: s.strip(),
    "JSON": lambda s: json.dumps({"k": s}),
    "JSON in UTF-8": lambda s: json.dumps([s], ensure_ascii=False),
    "JSON with capital digits": lambda s: re.sub(
        r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), json.dumps(s)
    ),
    "JSON of PHP": lambda s: json.dumps(s).replace("/", "\\/"),
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)),
    "a path of a URL": quote,
    "a part of a URL": lambda s: quote(s, safe=""),
    "a form": quote_plus,
    "a query": lambda s: urlencode({"a": "b", "k": s}),
    "a URL with small digits": lambda s: re.sub(
        "%[0-9A-F]{2}", lambda found: found[0].lower(), quote(s, safe="")
    ),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 without padding": lambda s: base64.b64encode(s.encode()).decode().rstrip("="),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "base64 for URLs without padding": lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    "base64 of MIME": lambda s: base64.encodebytes(s.encode()).decode(),
    "base64 in a URL": lambda s: quote(base64.b64encode(s.encode()).decode(), safe=""),
    "base64 of the stripped": lambda s: base64.b64encode(s.strip().encode()).decode(),
    "hexadecimal": lambda s: s.encode().hex(),
    "capital hexadecimal": lambda s: s.encode().hex().upper(),
    "Basic 1": lambda s: f"Basic {base64.b64encode(b'u:' + s.encode()).decode()}",
    "Basic 2": lambda s: f"Basic {base64.b64encode(b'us:' + s.encode()).decode()}",
    "Basic 3": lambda s: f"Basic {base64.b64encode(b'usr:' + s.encode()).decode()}",
    "Basic as a user": lambda s: f"Basic {base64.b64encode(s.encode() + b':pw').decode()}",
    "HTML": html.escape,
    "Python": repr,
    "Python bytes": lambda s: repr(s.encode()),
    "a shell": shlex.quote,
    "a shell without quotes": lambda s: " ".join(s.split()),
    "the lines of another system": lambda s: "\r\n".join(bare_lines(s)),
    "lines in a log": lambda s: "\n".join(f"INFO  {line}" for line in s.splitlines()),
    "lines as a list": lambda s: json.dumps(s.splitlines()),
}

words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="*"), min_size=12, max_size=40
)
ends = st.sampled_from(["", "\n", "\r\n", "  ", "\t\n", "\n\n"])
one_line = st.builds(lambda start, text, end: start + text + end, ends, words, ends)
several_lines = st.lists(words, min_size=2, max_size=5).map("\n".join)
pem_like = st.binary(min_size=100, max_size=400).map(
    lambda data: (
        f"-----BEGIN PRIVATE KEY-----\n{base64.encodebytes(data).decode()}-----END PRIVATE KEY-----\n"
    )
)


def pieces(secret: str) -> list[str]:
    """Return what would be recognised as the secret or a part of it: its lines, as text and as base64."""
    lines = [each for each in bare_lines(secret) if len(each) >= 8 and not each.startswith("-----")]
    encoded = [base64.b64encode(secret.strip().encode()).decode()[:60]]
    return [*lines, *encoded, *(quote(line, safe="") for line in lines)]


@pytest.mark.parametrize("notation", NOTATIONS)
@given(one_line | several_lines | pem_like)
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_no_notation_of_a_secret_survives(notation: str, secret: str):
    shown = NOTATIONS[notation](secret)
    for text in (shown, f"before {shown} after"):
        masked = redact({"a": [text]}, [secret])["a"][0]
        assert "***" in masked
        assert [each for each in pieces(secret) if each in masked] == []
    large = redact({"a": text, "filler": "x" * (1 << 16)}, [secret])["a"]
    assert [each for each in pieces(secret) if each in large] == []


def test_the_borders_of_a_pem_stay():
    secret = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----\n"
    assert redact("a file with -----BEGIN PRIVATE KEY----- in it", [secret]).startswith(
        "a file with -----BEGIN"
    )


def test_masking_a_result_with_a_secret_of_many_lines_takes_time_in_proportion_to_its_length():
    secret = "\n".join(f"{number:04}{'k' * 60}" for number in range(60))
    redact({"a": "some text"}, [secret])  # what is found is compiled once

    def seconds(length: int) -> float:
        result = {"a": "some other text " * length}
        started = time.process_time()
        assert redact(result, [secret]) == result
        return time.process_time() - started

    # Ten times as long; the square of that would be 100.
    assert min(seconds(50_000) for _ in range(3)) < 40 * max(seconds(5_000) for _ in range(3))


@given(st.text(string.ascii_letters + string.digits + '"/+ü', min_size=8, max_size=40), st.integers(0, 100))
def test_no_part_of_a_secret_survives_the_limit_of_an_output(secret: str, limit: int):
    output = Output(len("the key is ") + limit)
    output.add(f"the key is {secret}, and more".encode())
    shown = redact({"stdout": output.text}, [secret])
    assert secret[:4] not in shown["stdout"].removeprefix("the key is")


@given(st.text(string.ascii_letters + string.digits, min_size=8, max_size=40), st.integers(0, 60))
def test_no_part_of_a_secret_survives_at_the_beginning_of_a_tail(secret: str, more: int):
    output = Output(10)
    output.add((secret + "." * (TAIL_BYTES - more)).encode())
    shown = redact(output.tail, [secret])
    assert secret[-4:] not in shown
