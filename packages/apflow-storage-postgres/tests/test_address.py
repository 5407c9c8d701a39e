"""Every usual form of a URL, and what is said of those that cannot be read."""

import pytest

from apflow.core.errors import InvalidInputError
from apflow.storage.postgres.address import read_address


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:pass@Host.example/db",
        "postgres://ann:pass@host.example:5432/db",
        "postgresql+asyncpg://ann@host.example/db",
        "POSTGRESQL+psycopg2://ann:other@host.example/db",
        "postgresql://ann@host.example/db?password=pass",
    ],
)
def test_one_database_has_one_url_without_a_password(url: str):
    assert read_address(url).url == "postgresql://ann@host.example/db"


def test_the_driver_is_told_everything():
    address = read_address("postgres://ann:p%40ss@host:6543/db?sslmode=verify-full&sslrootcert=%2Fca.pem")
    assert address.dsn == "postgresql://ann:p%40ss@host:6543/db?sslmode=verify-full&sslrootcert=%2Fca.pem"
    assert "p%40ss" not in address.url
    assert address.url.startswith("postgresql://ann@host:6543/db?")


def test_parameters_of_other_drivers_are_understood():
    address = read_address(
        "postgresql+asyncpg://h/db?ssl=require&connect_timeout=3&channel_binding=require&pgbouncer=true"
    )
    assert address.dsn == "postgresql://h/db?sslmode=require"
    assert (address.connect_timeout, address.statement_cache_size) == (3.0, 0)
    assert read_address("postgresql://h/db?ssl=false").dsn == "postgresql://h/db?sslmode=disable"


def test_what_the_url_says_of_a_session_wins():
    assert read_address("postgresql://h/db").session["lock_timeout"] == "10000"
    assert "lock_timeout" not in read_address("postgresql://h/db?lock_timeout=5").session
    assert "lock_timeout=5" in read_address("postgresql://h/db?lock_timeout=5").dsn


@pytest.mark.parametrize(
    "url", ["postgresql:///db?host=%2Frun%2Fpostgresql", "postgresql://", "postgresql://a,b:1/db"]
)
def test_sockets_defaults_and_several_hosts_are_left_to_the_driver(url: str):
    assert read_address(url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:hidden@h/db",
        "postgresql://ann:hid@den@h/db",
        "postgresql://ann:hidden@h:port/db",
        "postgresql://ann:hid#den@h/db",
        "postgresql://ann:hidden@h/db?connect_timeout=soon",
    ],
)
def test_what_cannot_be_read_is_told_without_the_password(url: str):
    with pytest.raises(InvalidInputError, match="something like postgresql://") as caught:
        read_address(url)
    assert not any(word in str(caught.value) for word in ("hidden", "hid", "den@"))


@pytest.mark.parametrize("name", ["connect_timeout", "statement_cache_size"])
@pytest.mark.parametrize("value", ["-1", "9" * 30])
def test_a_number_of_an_address_has_bounds(name: str, value: str):
    with pytest.raises(InvalidInputError, match=f"{name} in a PostgreSQL URL must be"):
        read_address(f"postgresql://host/name?{name}={value}")
