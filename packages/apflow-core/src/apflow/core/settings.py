"""Settings, from the environment and from files.

An `APFLOW_*` variable wins over `apflow.toml` in the working folder, which wins over `apflow.toml` in the
user's configuration folder. The table of settings is the dataclass `Settings` itself.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections import ChainMap
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, cast

from apflow.core.bounds import MAX_COUNT, MAX_SECONDS
from apflow.core.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set. Each field is read from `APFLOW_<FIELD>`; times are in seconds."""

    database_url: str | None = None  # None: a DuckDB file in the user's data folder
    max_concurrency: int = 256  # running tasks of this process, over all its trees
    cancel_grace: float = 5.0  # for executors that end by themselves
    cancel_wait: float = 30.0  # for another process to carry a cancellation out
    hook_timeout: float = 10.0
    shutdown_timeout: float = 30.0
    lease_seconds: float = 15.0
    loop_block_seconds: float = 1.0  # that code may block an event loop before it is logged; 0: any time
    executor_wait: float = 10.0  # that a fresh run waits for another process which has its executors
    max_tasks: int = 200_000  # of one tree
    max_dependencies: int = 1_000_000  # of one tree
    max_inputs_bytes: int = 1 << 20
    max_result_bytes: int = 10 << 20
    max_referenced_bytes: int = 32 << 20  # of results that the inputs of one run refer to by `$from`
    max_json_depth: int = 64
    max_interruptions: int = 1  # times a task runs again after its process died during the call
    isolation_seconds: float = (
        10.0  # for how long, at most, such a task runs with no other one in its process
    )
    max_requested: int = 10_000  # trees whose run was submitted and has not ended
    max_requested_per_user: int = 1000
    max_schedules_per_user: int = 1000
    event_queue_size: int = 1000  # of one subscriber
    event_retention_days: float = 30
    # Days for which trees are kept after their end; 0: forever. See `planning.retention`.
    retention_days: float = 0.0
    retention_days_of_users: Mapping[str, str] = field(default_factory=dict[str, str])
    retention_days_of_tags: Mapping[str, str] = field(default_factory=dict[str, str])
    progress_interval: float = 0.25
    task_log_level: str = "INFO"  # of records that task logs contain; "OFF": nothing is captured
    task_log_max_bytes: int = 4 << 20  # of one attempt, each line counted with 100 bytes more
    task_log_line_length: int = 8192  # characters
    budget_warning_share: float = 0.8  # of a budget: when this much is spent, an event reports it
    budget_output_tokens: int = 4096  # reserved for a call of a model that sets no limit for its answer
    duckdb_memory_limit: str = "512MB"
    background_daemon: bool = True  # whether `run flow --background` starts the daemon where it is needed
    daemon_log_max_bytes: int = 10 << 20  # of the log of the daemon, after which a new one begins
    migration_copy: bool = True  # whether a database file is copied before a migration changes it
    command_allow: tuple[str, ...] = ()  # programs that tasks may run; "*": any
    command_shell: bool = False  # whether command_executor may use a shell
    docker_volume_roots: tuple[str, ...] = ()  # folders below which docker_executor may mount any
    # Directories below which tasks may name files; see `permissions.file_policy`.
    file_roots: tuple[str, ...] = ()
    # JSON, or the path of a file: who may use which secret; see `permissions.secret_policy`.
    secret_policy: str = ""
    # JSON, or the path of a file: all that tasks may touch; see `permissions.capability_policy`.
    allowed_capabilities: str = ""
    net_policy: str = "open"  # or "public": what executors may connect to; see `net.policy`
    net_allow: tuple[str, ...] = ()  # hosts, addresses and networks that they may connect to all the same
    # Agents that tasks can use as executors, by name; see `extensions.named`.
    a2a_agents: Mapping[str, str] = field(default_factory=dict[str, str])  # name -> URL
    import_modules: tuple[str, ...] = ()  # modules that register executors; also APFLOW_IMPORT
    task_model_class: str = ""  # "module:Class" with the custom columns of tasks
    hooks: tuple[str, ...] = ()  # names of hook plugins that run
    # Name of the plugin that calls executors. "local": this process does; "workers": all of the database do.
    runner: str = "local"
    # What a worker offers to calls; see `model.resources`.
    worker_resources: Mapping[str, str] = field(default_factory=dict[str, str])  # name -> amount
    worker_labels: Mapping[str, str] = field(default_factory=dict[str, str])  # name -> value
    worker_executors: tuple[str, ...] = ()  # that it calls for other processes; empty: all that it has
    worker_calls: int = 256  # that it makes for other processes at once
    dask_address: str = ""  # of the scheduler that the runner `dask` uses; empty: a local cluster
    dask_tls_ca: str = ""  # file of the certificate authority of the cluster
    dask_tls_cert: str = ""  # file of the certificate that this process shows to the cluster
    dask_tls_key: str = ""  # file of its key
    dask_workers: int = 2  # processes of the local cluster
    dask_threads: int = 250  # calls that run at once in each of them
    dask_wait: float = 30.0  # for the scheduler and a first worker, before tasks fail
    plugins_prefer: Mapping[str, str] = field(default_factory=dict[str, str])  # name -> distribution
    bind: str = "127.0.0.1:8000"  # where a server listens
    public_url: str = ""  # of the server, as its callers see it
    api_url: str = ""  # of the server that commands and clients use
    api_token: str = field(default="", repr=False)  # that they bear there
    jwt_secret: str = field(
        default="", repr=False
    )  # at least 32 bytes: callers of the server bear tokens that are signed with it
    jwks_url: str = ""  # where the keys are that tokens are signed with
    jwt_algorithms: tuple[
        str, ...
    ] = ()  # of tokens; by default HS256 with a secret, RS256 and ES256 with keys
    jwt_audience: str = ""  # that tokens must name
    jwt_issuer: str = ""  # that tokens must come from
    insecure: bool = False  # allow access from other machines without authentication
    trusted_proxies: tuple[str, ...] = ()  # on other machines; "*": any
    cors_origins: tuple[str, ...] = ()  # pages that browsers let call the server
    ui: bool = True  # whether the server has a page for browsers, at /ui/
    rate_limit: int = 6000  # requests a minute of one caller, and of one address
    max_request_bytes: int = 16 << 20  # of one request to the server
    mcp_tools: tuple[str, ...] = ()  # profiles, names or patterns of the tools that MCP clients get
    mcp_sampling_model: str = ""  # of `llm_executor`, which answers MCP servers; empty: they are refused
    mcp_task_seconds: float = 604_800  # that a task of an MCP client is kept; see `server.mcp.run_tasks`
    mcp_sessions: bool = True  # whether the server keeps sessions of MCP clients; see `server.mcp.sdk`
    webhook_timeout: float = 30.0
    webhook_url: str = field(default="", repr=False)  # receives the events of every run; it may hold a token
    webhook_events: tuple[str, ...] = ()  # types of the events that it receives; by default all
    on_failure_url: str = field(default="", repr=False)  # receives `tree_failed` of every run that fails
    webhook_secret: str = field(default="", repr=False)  # signs what these two receive
    # Encrypts credentials that the server stores; see `apflow.server.auth.credentials`.
    credentials_key: str = field(default="", repr=False)
    a2a_legacy: bool = True  # whether the card of the agent announces version 0.3 of A2A
    a2a_grpc_bind: str = ""  # where the server listens for A2A over gRPC; empty: nowhere
    a2a_grpc_url: str = ""  # host:port at which callers reach it
    a2a_card_key: str = ""  # file of the private key that signs the card of the agent
    a2a_card_key_id: str = ""  # `kid` of that key; by default "apflow"
    otlp_endpoint: str = ""  # of a collector that takes traces
    trace_model_content: bool = False  # whether traces contain prompts and answers of models
    log_format: str = "text"  # or "json"
    log_level: str = "WARNING"

    @property
    def has_tokens(self) -> bool:
        """Whether a server with these settings identifies its callers by tokens."""
        return bool(self.jwt_secret or self.jwks_url)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its value, and where that came from."""

    name: str
    value: object
    source: str  # "default", "APFLOW_...", or the path of a file

    @property
    def variable(self) -> str:
        """The variable of the environment that sets it."""
        return f"APFLOW_{self.name.upper()}"

    @property
    def is_secret(self) -> bool:
        """Whether the value must not be shown."""
        return not next(each.repr for each in fields(Settings) if each.name == self.name)


MIN_SECRET_LENGTH: Final = 32  # bytes of `jwt_secret` (RFC 7518, section 3.2)
FILE_NAME = "apflow.toml"
MAX_DEPTH = 20  # words of a setting's name: of more, no part is looked at
_PREFIXES = ("AIPARTNERUPFLOW_", "APFLOW_")  # of variables, the more important last
# Variables of settings, for those that read other variables with the same prefix.
VARIABLES = frozenset(f"APFLOW_{each.name.upper()}" for each in fields(Settings))

# Names of variables that other parts of apflow read by themselves.
READ_ELSEWHERE = frozenset({
    "llm_model", "llm_provider",
})  # fmt: skip

# Older and shorter names of a setting.
ALIASES = {"import": "import_modules"}

FORMER = "AIPARTNERUPFLOW_"  # begins the variables of the former system, of which the names differ:
_FORMER_NAMES: Mapping[str, str] = {
    "base_url": "public_url",
    "jwt_algorithm": "jwt_algorithms",
    "jwt_secret_key": "jwt_secret",
}
# Read with others, or turned into a setting below.
_FORMER_READ = frozenset({"api_host", "api_port", "cors_allow_all", "db_path", "task_table_name"})
_READ_TOGETHER = frozenset(f"{FORMER}{name.upper()}" for name in _FORMER_READ)
# Variables of the former system that are not read, and what to use instead.
_REPLACED = {
    "stdio_allow_command": "APFLOW_COMMAND_ALLOW",
    "stdio_command_whitelist": "APFLOW_COMMAND_ALLOW",
}
# Words of variables that decide who may call: one that is not understood must not leave a server open.
_OF_CALLERS = re.compile(r"jwt|jwks|auth|token|secret|cors|api_key|insecure|permission|role|tls|ssl|https")
_ONLY_TABLE = "apflow_tasks"

# Container platforms set these for any service that is called apflow.
_INJECTED = re.compile(r"(service_|port$|port_|.*_(host|port)$|.*_port_\d+_(tcp|udp))")


def get_settings() -> Settings:
    """Return the settings of this process, read once.

    Raises:
        SettingsError: a value is of the wrong kind, or a file names an unknown setting.
    """
    return _read()


def reset_settings() -> None:
    """Forget the settings, so that the next use reads them again."""
    _read.cache_clear()


def explain_settings() -> list[Setting]:
    """Read all settings again, and return each with its source."""
    values = {each.name: Setting(each.name, _default(each.name), "default") for each in fields(Settings)}
    for path in reversed(_files()):
        values.update((each.name, each) for each in _from_file(path))
    values.update((each.name, each) for each in _from_environment(os.environ))
    return list(values.values())


def find_setting(given: str) -> Setting:
    """Return a setting by its name in a file (`bind`) or in the environment (`APFLOW_BIND`).

    Raises:
        SettingsError: there is none of that name, or a value is of the wrong kind.
    """
    name = setting_name(given)
    return next(each for each in explain_settings() if each.name == name)


def setting_name(given: str) -> str:
    """Return the name of a setting in a file (`bind`), also for the one in the environment (`APFLOW_BIND`).

    Raises:
        SettingsError: there is none of that name.
    """
    key = re.sub(f"^({'|'.join(_PREFIXES)})", "", given.replace("-", "_").upper()).lower()
    name = ALIASES.get(key, key)
    if name not in _names():
        raise SettingsError(f"There is no setting {given!r}.{_suggest(key, _names())}")
    return name


def check_setting(name: str, value: object, source: str) -> object:
    """Return a value as the type of a setting; a string is parsed like an environment variable.

    Args:
        source: what the message of an error calls it.

    Raises:
        SettingsError: it is of another kind.
    """
    return _checked(name, value, source)


def file_of_settings(*, of_project: bool) -> Path:
    """Return the path of `apflow.toml`: in the working folder, or in the user's configuration folder."""
    project, user = _candidates()
    return project if of_project else user


def read_settings() -> Settings:
    """Return the current settings, for code that must not use an outdated policy."""
    values: dict[str, Any] = {each.name: each.value for each in explain_settings()}
    return Settings(**values)


def settings_state(*names: str) -> tuple[object, ...]:
    """Return what the values of these settings hang on: equal to an earlier one where none has changed."""
    variables = [os.environ.get(prefix + name.upper()) for name in names for prefix in _PREFIXES]
    files = [(str(path), status.st_mtime_ns, status.st_size) for path, status in _found(_candidates())]
    return (*variables, *files, *map(id, _overridden))


def settings_now(*names: str) -> Settings:
    """Return settings of which these are as they are at this moment: read again where one has changed."""
    return _settings_at(settings_state(*names))


@contextmanager
def overridden_defaults(**values: object) -> Generator[None]:
    """Override defaults of settings in this process temporarily. Explicit settings still win."""
    checked = {name: _checked(name, value, name) for name, value in values.items()}
    _overridden.append(checked)
    reset_settings()
    try:
        yield
    finally:
        _overridden[:] = [each for each in _overridden if each is not checked]
        reset_settings()


@lru_cache(maxsize=8)
def _settings_at(_: object) -> Settings:
    return read_settings()


_read = cache(read_settings)
_overridden: list[dict[str, Any]] = []  # the last one wins


def _files() -> list[Path]:
    """Return the files there are, the most important one first."""
    return [path for path, _ in _found(_candidates())]


def _candidates() -> Iterator[Path]:
    import platformdirs

    yield Path(FILE_NAME).absolute()
    yield Path(platformdirs.user_config_dir("apflow", appauthor=False), FILE_NAME)


def _found(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                yield path, status


def _from_file(path: Path) -> Iterator[Setting]:
    import tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    except RecursionError as error:
        raise SettingsError(f"{path} cannot be read: its values are nested too deeply.") from error
    for key, value in _flatten("", content):
        name = ALIASES.get(key, key)
        if name in READ_ELSEWHERE:
            continue
        if name not in _names():
            raise SettingsError(f"{path}: there is no setting {key!r}.{_suggest(key, _names())}")
        yield Setting(name, _checked(name, value, f"{path}: {key}"), str(path))


def _flatten(prefix: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield settings by name: `[plugins] prefer = ...` is `plugins_prefer`."""
    for key, value in content.items():
        name = prefix + key.replace("-", "_")
        if isinstance(value, dict) and name not in _names() and name.count("_") < MAX_DEPTH:
            yield from _flatten(f"{name}_", cast("dict[str, Any]", value))
        else:
            yield name, value


def _from_environment(environment: Mapping[str, str]) -> Iterator[Setting]:
    yield from _from_former(environment)
    for variable, name in _variables(environment):
        if environment[variable] != "":
            yield Setting(name, _checked(name, environment[variable], variable), variable)


def _from_former(environment: Mapping[str, str]) -> Iterator[Setting]:
    """Yield the settings that variables of the former system mean, where they mean one together."""
    given = {name: environment.get(f"{FORMER}{name.upper()}", "") for name in _FORMER_READ}
    host, port = given["api_host"], given["api_port"]
    if host or port:
        shown = f"[{host}]" if ":" in host else host
        bind = f"{shown or '127.0.0.1'}:{port or '8000'}"
        yield Setting("bind", bind, f"{FORMER}API_HOST, {FORMER}API_PORT")
    if given["cors_allow_all"] and _checked("insecure", given["cors_allow_all"], f"{FORMER}CORS_ALLOW_ALL"):
        yield Setting("cors_origins", ("*",), f"{FORMER}CORS_ALLOW_ALL")
    if given["db_path"]:
        path = Path(given["db_path"]).expanduser().absolute()
        yield Setting("database_url", f"duckdb:///{path}", f"{FORMER}DB_PATH")
    if given["task_table_name"] not in ("", _ONLY_TABLE):
        raise SettingsError(
            f"{FORMER}TASK_TABLE_NAME is {given['task_table_name']!r}, but tasks are always stored in the "
            f"table {_ONLY_TABLE}. Unset it, and use APFLOW_DATABASE_URL to name another database or schema."
        )


def check_former_variables(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to serve where a variable of the former system that decides who may call is not understood.

    Raises:
        SettingsError: there is one; the message names the setting to use instead.
    """
    for variable in sorted(environment):
        key = variable.removeprefix(FORMER).lower()
        if key == variable.lower() or environment[variable] == "" or _is_understood(key):
            continue
        if _OF_CALLERS.search(key):
            raise SettingsError(
                f"{variable} is set, but apflow has no such setting, and it may decide who can call this "
                "server. Use APFLOW_JWT_SECRET, APFLOW_JWKS_URL or APFLOW_CORS_ORIGINS instead, and unset "
                f"{variable}."
            )


def _is_understood(key: str) -> bool:
    name = _FORMER_NAMES.get(key, ALIASES.get(key, key))
    return name in _names() or name in READ_ELSEWHERE or key in _FORMER_READ or key.startswith("secret_")


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield variables and the settings that they set, the most important last. Warn of unknown ones."""
    if "DATABASE_URL" in environment:
        yield "DATABASE_URL", "database_url"
    _warn_of_replaced(environment)
    for prefix in _PREFIXES:
        for variable in environment:
            if not variable.startswith(prefix) or variable in _READ_TOGETHER:
                continue
            key = variable.removeprefix(prefix).lower()
            name = ALIASES.get(key, key)
            if prefix == FORMER:
                name = _FORMER_NAMES.get(key, name)
            if name in _names():
                yield variable, name
            elif name not in READ_ELSEWHERE and not name.startswith("secret_") and not _INJECTED.match(name):
                advice = _advice(name) or _suggest(variable, [f"APFLOW_{each.upper()}" for each in _names()])
                warnings.warn(f"{variable} is not a setting of apflow and is ignored.{advice}", stacklevel=2)


def _warn_of_replaced(environment: Mapping[str, str]) -> None:
    for bare in _REPLACED:
        if environment.get(bare.upper()):
            warnings.warn(f"{bare.upper()} is ignored.{_advice(bare)}", stacklevel=3)


def _advice(name: str) -> str:
    return f" Use {_REPLACED[name]}." if name in _REPLACED else ""


@cache
def _names() -> frozenset[str]:
    return frozenset(each.name for each in fields(Settings))


def _default(name: str) -> Any:
    return ChainMap(*reversed(_overridden)).get(name, _declared_default(name))


@cache
def _declared_default(name: str) -> Any:
    declared = next(each for each in fields(Settings) if each.name == name)
    return declared.default if declared.default is not MISSING else {}


def _suggest(key: str, known: Any) -> str:
    import difflib

    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _checked(name: str, value: object, source: str) -> object:
    """Return the value as the setting's type. A string from the environment is parsed."""
    kind = str if name == "database_url" else cast("type[object]", type(_declared_default(name)))
    try:
        read = _READERS[kind](value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(f"{source} is {_shortened(value)}, which is not {_KINDS[kind]}.") from error
    most = _MAX.get(name, MAX_SECONDS if kind is float else MAX_COUNT)
    if kind in (int, float) and cast("float", read) > most:
        raise SettingsError(f"{source} is {_shortened(value)}; at most {most:,} is possible.")
    return read


def _shortened(value: object) -> str:
    text = str(value) if isinstance(value, int) and value.bit_length() < 1000 else f"{value!r:.100}"
    return text[:100]


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _read_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = _read_text(value).lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(value)
    return word in _TRUE


def _read_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(value)
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError(value)
    return number


def _read_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(value)
    number = int(value)
    if number < 1:
        raise ValueError(value)
    return number


def _read_list(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list):
        raise TypeError(value)
    texts = [_read_text(part).strip() for part in cast("list[object]", parts)]
    return tuple(text for text in texts if text)


def _read_mapping(value: object) -> Mapping[str, str]:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in _read_list(value)]
        if not all(name and sign and other for name, sign, other in pairs):
            raise ValueError(value)
        return {name.strip(): other.strip() for name, _, other in pairs}
    if not isinstance(value, dict):
        raise TypeError(value)
    return {name: _read_text(other) for name, other in cast("dict[str, object]", value).items()}


_MAX: Mapping[str, int] = {
    "max_json_depth": 200,  # more cannot be written as text
    "event_retention_days": 36_500,
    "retention_days": 36_500,
    "budget_warning_share": 1,
}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_READERS: Mapping[type, Callable[[object], object]] = {
    str: _read_text,
    bool: _read_bool,
    float: _read_float,
    int: _read_int,
    tuple: _read_list,
    dict: _read_mapping,
}
_KINDS: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    float: "a number of 0 or more",
    int: "a whole number of 1 or more",
    tuple: "a list of strings (comma-separated in the environment)",
    dict: "a table (NAME=VALUE,... in the environment)",
}
