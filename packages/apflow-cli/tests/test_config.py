from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jwt
import pytest

SECRET = "a secret of the server, which is long enough"
DATABASE = {"APFLOW_DATABASE_URL": "postgresql://ann:hunter2hunter2@db.example/flows"}


def user_file(folder: Path) -> Path:
    return folder / ".config" / "apflow" / "apflow.toml"


@pytest.fixture(autouse=True)
def _home(bare, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def test_every_setting_is_listed_with_where_it_comes_from(bare):
    (bare.folder / "apflow.toml").write_text('max-concurrency = 7\n[net]\nallow = ["10.0.0.0/8", "db"]\n')
    bare.environment["APFLOW_RATE_LIMIT"] = "9"
    found = {each["name"]: each for each in bare.json("config", "list")["settings"]}
    assert found["rate_limit"] == {
        "name": "rate_limit",
        "variable": "APFLOW_RATE_LIMIT",
        "value": 9,
        "source": "APFLOW_RATE_LIMIT",
        "description": "maximum requests per minute of one caller, and of one address",
    }
    file = str(bare.folder / "apflow.toml")
    assert (found["max_concurrency"]["value"], found["max_concurrency"]["source"]) == (7, file)
    assert (found["net_allow"]["value"], found["net_allow"]["source"]) == (["10.0.0.0/8", "db"], file)
    assert (found["bind"]["value"], found["bind"]["source"]) == ("127.0.0.1:8000", "default")
    lines = bare("config", "list").stdout.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "SOURCE", "MEANING"]
    meaning = "hosts (db.example.com, *.example.com), addresses and networks (10.1.0.0/16) that are allowed"
    [line] = [" ".join(each.split()) for each in lines if each.startswith("APFLOW_NET_ALLOW")]
    assert line.startswith(f"APFLOW_NET_ALLOW 10.0.0.0/8,db {file} {meaning}")


def test_every_setting_has_a_meaning(bare):
    found = bare.json("config", "list")["settings"]
    assert all(len(each["description"]) > 10 for each in found)
    assert bare.json("config", "get", "bind")["setting"]["description"].startswith("address and port")


def test_nothing_secret_is_shown(bare):
    bare.environment |= DATABASE | {"APFLOW_JWT_SECRET": SECRET, "APFLOW_API_TOKEN": "token-of-ann"}
    for arguments in (["list"], ["list", "--json"], ["get", "jwt_secret"], ["get", "APFLOW_DATABASE_URL"]):
        done = bare("config", *arguments)
        assert done.returncode == 0
        assert not any(each in done.stdout + done.stderr for each in (SECRET, "token-of-ann", "hunter2"))
    assert bare("config", "get", "database_url").stdout == "postgresql://ann:***@db.example/flows\n"
    assert bare("config", "get", "api-token").stdout == "***\n"


@pytest.mark.parametrize("name", ["max_concurrency", "max-concurrency", "APFLOW_MAX_CONCURRENCY"])
def test_a_setting_is_shown_by_any_of_its_names(bare, name: str):
    assert bare("config", "get", name).stdout == "256\n"


@pytest.mark.parametrize("arguments", [["get", "max_concurency"], ["set", "max_concurency", "3"]])
def test_an_unknown_setting_is_an_error_with_a_suggestion(bare, arguments: list[str]):
    done = bare("config", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "max_concurency" in done.stderr
    assert "'max_concurrency'" in done.stderr
    assert not user_file(bare.folder).exists()


def test_a_setting_is_written_for_the_user_or_the_project(bare):
    assert bare("config", "set", "max_concurrency", "12").returncode == 0
    assert bare("config", "set", "APFLOW_NET_ALLOW", "10.0.0.0/8, db").returncode == 0
    assert bare("config", "set", "plugins_prefer", "x=mine", "--project").returncode == 0
    assert tomllib.loads(user_file(bare.folder).read_text()) == {
        "max_concurrency": 12,
        "net_allow": ["10.0.0.0/8", "db"],
    }
    assert user_file(bare.folder).stat().st_mode & 0o777 == 0o600
    assert tomllib.loads((bare.folder / "apflow.toml").read_text()) == {"plugins_prefer": {"x": "mine"}}
    assert bare("config", "get", "net_allow").stdout == "10.0.0.0/8,db\n"
    assert bare("config", "get", "plugins_prefer").stdout == "x=mine\n"


def test_what_else_a_file_holds_stays_as_it_is(bare):
    text = '# ours\nmax-concurrency = 7 # few\nimport = ["a"]\n\n[net]\npolicy = "public" # strict\n'
    file = bare.folder / "apflow.toml"
    file.write_text(text)
    file.chmod(0o640)
    for name, value in (("max_concurrency", "8"), ("net_policy", "open"), ("import_modules", "b,c")):
        assert bare("config", "set", name, value, "--project").returncode == 0
    changed = text.replace("7", "8").replace('"public"', '"open"').replace('["a"]', '["b", "c"]')
    assert file.read_text() == changed
    assert file.stat().st_mode & 0o777 == 0o640


def test_what_wins_over_a_file_is_told(bare):
    bare.environment["APFLOW_RATE_LIMIT"] = "9"
    done = bare("config", "set", "rate_limit", "10")
    assert (done.returncode, "APFLOW_RATE_LIMIT overrides it" in done.stdout) == (0, True)


def test_a_setting_is_removed_and_the_rest_stays(bare):
    file = bare.folder / "apflow.toml"
    file.write_text('# ours\nmax-concurrency = 7 # few\n\n[net]\npolicy = "public"\nallow = ["a"] # one\n')
    file.chmod(0o640)
    done = bare("config", "unset", "APFLOW_MAX_CONCURRENCY", "--project")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"max_concurrency is removed from {file}. Its value is '256', from: default.\n"
    assert bare("config", "unset", "net_policy", "--project").returncode == 0
    assert file.read_text() == '# ours\n\n[net]\nallow = ["a"] # one\n'
    assert file.stat().st_mode & 0o777 == 0o640
    bare.environment["APFLOW_RATE_LIMIT"] = "9"
    found = bare.json("config", "unset", "rate_limit")
    assert (found["is_removed"], found["setting"]["value"]) == (False, 9)
    assert not user_file(bare.folder).exists()
    assert bare("config", "unset", "max_concurency").returncode == 2


def test_a_setting_with_a_wrong_value_is_removed(bare):
    file = bare.folder / "apflow.toml"
    file.write_text("max_concurrency = 'many'\n")
    assert bare("config", "unset", "max_concurrency", "--project").returncode == 0
    assert file.read_text() == ""


@pytest.mark.parametrize("content", [None, "max_concurrency = 7\n"])
def test_a_wrong_value_is_refused_and_nothing_written(bare, content: str | None):
    file = bare.folder / "apflow.toml"
    if content is not None:
        file.write_text(content)
    done = bare("config", "set", "max_concurrency", "many", "--project")
    assert done.returncode == 2
    assert "max_concurrency is 'many', which is not a whole number" in done.stderr
    assert (file.read_text() if file.exists() else None) == content


def test_a_file_that_is_no_toml_is_left_alone(bare):
    file = bare.folder / "apflow.toml"
    file.write_text("max_concurrency = \n")
    done = bare("config", "set", "max_concurrency", "3", "--project")
    assert done.returncode == 2
    assert str(file) in done.stderr
    assert file.read_text() == "max_concurrency = \n"


def test_a_token_says_who_bears_it_and_until_when(bare):
    bare.environment |= {"APFLOW_JWT_SECRET": SECRET, "APFLOW_JWT_AUDIENCE": "us", "APFLOW_JWT_ISSUER": "me"}
    made = bare.json("config", "gen-token", "--user-id", "ann", "--expires-in", "60", "--admin")
    claims = jwt.decode(made["token"], SECRET, ["HS256"], audience="us", issuer="me")
    assert (claims["sub"], claims["role"], claims["exp"] - claims["iat"]) == ("ann", "admin", 60)
    plain = bare("config", "gen-token", "--user-id", "bob").stdout.strip()
    claims = jwt.decode(plain, SECRET, ["HS256"], audience="us")
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("bob", 86_400)
    assert "role" not in claims


@pytest.mark.parametrize(
    "environment", [{}, {"APFLOW_JWT_SECRET": "short"}, {"APFLOW_JWT_ALGORITHMS": "RS256"}]
)
def test_no_token_is_made_that_no_server_would_take(bare, environment: dict[str, str]):
    bare.environment |= environment
    if "APFLOW_JWT_ALGORITHMS" in environment:
        bare.environment["APFLOW_JWT_SECRET"] = SECRET
    done = bare("config", "gen-token", "--user-id", "ann")
    assert (done.returncode, done.stdout) == (2, "")
    assert "APFLOW_JWT_" in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"a = {'[' * 5000}{']' * 5000}", "nested too deeply"),
        (f"a = {'{b=' * 5000}1{'}' * 5000}", "nested too deeply"),
        (f"{'.'.join('a' * 5000)} = 1", "no setting"),
        ('log_level = "info"\nlog_level = "debug"', "line 2"),
        ("log_level", "line 1"),
    ],
    ids=["arrays", "tables", "dotted", "repeated", "no value"],
)
def test_a_hostile_file_of_settings_is_refused_clearly(bare, text: str, expected: str):
    (bare.folder / "apflow.toml").write_text(text)
    for arguments in (("config", "list"), ("config", "set", "--project", "log_level", "info")):
        done = bare(*arguments)
        assert done.returncode == 2, done.stderr
        assert "cannot" in done.stderr or expected in done.stderr
        assert "fault in apflow" not in done.stderr


def test_secrets_are_listed_with_who_may_use_them_and_without_values(bare):
    policy = {
        "KEY": [{"users": ["ann"], "hosts": ["a.example"]}, {"roles": ["ops"]}],
        "VAULT_*": {"users": ["*"]},
        "LATER": {"executors": ["rest_executor"]},
    }
    bare.environment |= {"APFLOW_SECRET_KEY": "hunter2hunter2", "APFLOW_SECRET_OWN": "hunter2hunter2"}
    bare.environment["APFLOW_SECRET_POLICY"] = json.dumps(policy)
    found = {each["name"]: each for each in bare.json("config", "secrets", "list")["secrets"]}
    assert {name: each["source"] for name, each in found.items()} == {
        "KEY": "APFLOW_SECRET_KEY",
        "LATER": "not set",
        "OWN": "APFLOW_SECRET_OWN",
    }
    assert found["KEY"]["grants"][0] == {
        "users": ["ann"],
        "roles": [],
        "executors": [],
        "hosts": ["a.example"],
    }
    done = bare("config", "secrets", "list")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["SECRET", "SOURCE", "USERS", "ROLES", "EXECUTORS", "HOSTS"],
        ["KEY", "APFLOW_SECRET_KEY", "ann", "admin", "*", "a.example"],
        ["KEY", "APFLOW_SECRET_KEY", "-", "admin,", "ops", "*", "*"],
        ["LATER", "not", "set", "-", "admin", "rest_executor", "*"],
        ["OWN", "APFLOW_SECRET_OWN", "-", "admin", "*", "*"],
    ]
    assert "hunter2" not in done.stdout
    bare.environment["APFLOW_SECRET_POLICY"] = "{"
    assert bare("config", "secrets", "list").returncode == 2
