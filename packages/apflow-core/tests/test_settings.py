import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from apflow.core.errors import SettingsError
from apflow.core.settings import (
    Settings,
    explain_settings,
    find_setting,
    get_settings,
    overridden_defaults,
    read_settings,
    reset_settings,
)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read settings from an empty working folder, home and environment."""
    import os

    for variable in list(os.environ):
        if variable.startswith(("APFLOW_", "AIPARTNERUPFLOW_")) or variable == "DATABASE_URL":
            monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    reset_settings()
    yield
    reset_settings()


def test_without_any_source_the_defaults_hold():
    assert get_settings() == Settings()


def test_values_of_every_kind_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_DATABASE_URL", "duckdb:///x.duckdb")
    monkeypatch.setenv("APFLOW_MAX_CONCURRENCY", "7")
    monkeypatch.setenv("APFLOW_LEASE_SECONDS", "2.5")
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "ls, cat")
    monkeypatch.setenv("APFLOW_COMMAND_SHELL", "yes")
    monkeypatch.setenv("APFLOW_IMPORT", "my_executors")
    monkeypatch.setenv("APFLOW_PLUGINS_PREFER", "a=dist-a,b=dist-b")
    settings = get_settings()
    assert settings.database_url == "duckdb:///x.duckdb"
    assert (settings.max_concurrency, settings.lease_seconds) == (7, 2.5)
    assert settings.command_allow == ("ls", "cat")
    assert settings.command_shell is True
    assert settings.import_modules == ("my_executors",)
    assert settings.plugins_prefer == {"a": "dist-a", "b": "dist-b"}


def test_the_environment_wins_over_the_project_and_the_project_over_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    user = tmp_path / "config" / "apflow"
    user.mkdir(parents=True)
    (user / "apflow.toml").write_text("max_concurrency = 1\nlease_seconds = 1\nhook_timeout = 1\n")
    (tmp_path / "apflow.toml").write_text("max_concurrency = 2\nlease_seconds = 2\n")
    monkeypatch.setenv("APFLOW_MAX_CONCURRENCY", "3")
    settings = get_settings()
    assert (settings.max_concurrency, settings.lease_seconds, settings.hook_timeout) == (3, 2.0, 1.0)
    sources = {each.name: each.source for each in explain_settings()}
    assert sources["max_concurrency"] == "APFLOW_MAX_CONCURRENCY"
    assert sources["lease_seconds"] == str(tmp_path / "apflow.toml")
    assert sources["hook_timeout"] == str(user / "apflow.toml")
    assert sources["log_level"] == "default"


def test_tables_of_a_file_are_prefixes(tmp_path: Path):
    content = '[command]\nallow = ["ls"]\n[plugins.prefer]\nshared = "dist"\n'
    (tmp_path / "apflow.toml").write_text(content)
    assert get_settings().command_allow == ("ls",)
    assert get_settings().plugins_prefer == {"shared": "dist"}


def test_former_names_are_read_and_new_ones_win(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "duckdb:///c")
    assert get_settings().database_url == "duckdb:///c"
    monkeypatch.setenv("AIPARTNERUPFLOW_DATABASE_URL", "duckdb:///b")
    reset_settings()
    assert get_settings().database_url == "duckdb:///b"
    monkeypatch.setenv("APFLOW_DATABASE_URL", "duckdb:///a")
    reset_settings()
    assert get_settings().database_url == "duckdb:///a"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("APFLOW_MAX_CONCURRENCY", "many"),
        ("APFLOW_MAX_CONCURRENCY", "0"),
        ("APFLOW_LEASE_SECONDS", "-1"),
        ("APFLOW_LEASE_SECONDS", "inf"),
        ("APFLOW_COMMAND_SHELL", "maybe"),
        ("APFLOW_PLUGINS_PREFER", "no-sign"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable} is '{value}'"):
        get_settings()


@pytest.mark.parametrize("content", ["max_concurency = 3", "[command]\nalow = ['ls']"])
def test_an_unknown_key_in_a_file_is_an_error_with_a_suggestion(content: str, tmp_path: Path):
    (tmp_path / "apflow.toml").write_text(content)
    with pytest.raises(SettingsError, match=r"Did you mean '(max_concurrency|command_allow)'"):
        get_settings()


@pytest.mark.parametrize(
    "content", ["max_concurrency = '3x'", "command_allow = 3", "log_level = 3", "= broken"]
)
def test_a_bad_file_is_refused_with_its_path(content: str, tmp_path: Path):
    (tmp_path / "apflow.toml").write_text(content)
    with pytest.raises(SettingsError, match=r"apflow\.toml"):
        get_settings()


def test_an_unknown_variable_is_a_warning_with_a_suggestion(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_MAX_CONCURENCY", "3")
    with pytest.warns(UserWarning, match="Did you mean 'APFLOW_MAX_CONCURRENCY'"):
        get_settings()


@pytest.mark.parametrize(
    "variable",
    ["APFLOW_SECRET_MAIL", "APFLOW_SERVICE_HOST", "APFLOW_PORT", "APFLOW_PORT_8000_TCP_ADDR"],
)
def test_secrets_and_what_container_platforms_inject_are_no_unknown_settings(
    variable: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert get_settings() == Settings()


def test_an_overridden_default_holds_for_a_while_and_loses_to_what_is_set(monkeypatch: pytest.MonkeyPatch):
    with overridden_defaults(net_policy="public", max_tasks=5):
        monkeypatch.setenv("APFLOW_MAX_TASKS", "6")
        assert (read_settings().net_policy, get_settings().max_tasks) == ("public", 6)
    assert get_settings().net_policy == "open"


def test_overridden_defaults_may_end_in_any_order():
    first, second = overridden_defaults(net_policy="public"), overridden_defaults(net_policy="public")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert get_settings().net_policy == "public"
    second.__exit__(None, None, None)
    assert get_settings().net_policy == "open"


@pytest.mark.parametrize(
    "given", ["import_modules", "import", "APFLOW_IMPORT", "aipartnerupflow_import-modules"]
)
def test_a_setting_is_found_by_any_of_its_names(given: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_IMPORT", "a,b")
    found = find_setting(given)
    assert (found.name, found.value, found.source) == ("import_modules", ("a", "b"), "APFLOW_IMPORT")
    assert found.variable == "APFLOW_IMPORT_MODULES"
    assert not found.is_secret
    assert find_setting("jwt-secret").is_secret


def test_a_setting_that_there_is_not_is_told_with_a_suggestion():
    with pytest.raises(SettingsError, match=r"'bindd'.*'bind'"):
        find_setting("bindd")
