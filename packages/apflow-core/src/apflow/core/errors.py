"""Every error that apflow raises on purpose.

```text
ApflowError
├── InvalidInputError (ValueError)   what the caller gave cannot be used
│   ├── TreeInvalidError             an array of tasks that is not a valid tree
│   ├── ValidationError              inputs that break the executor's schema
│   │   └── InputsError              inputs that cannot be built: a reference that finds nothing
│   ├── AmbiguousTaskError           a name that several tasks have
│   ├── FlowError                    a flow that uses the result of a task before it is known
│   ├── QueryError                   a JMESPath expression that is invalid, or fails on its value
│   ├── MalformedTextError           text that is not JSON or YAML, or repeats a key
│   └── SettingsError                a setting that cannot be read
├── NotFoundError (KeyError)         no such task
│   ├── ScheduleNotFoundError        no such schedule
│   └── ApprovalNotFoundError        the task has asked for no approval
├── NoResultError (KeyError)         a task has not completed, and so has no result
├── RunFailedError (RuntimeError)    the result of a run that has not completed
├── ForbiddenError (PermissionError) the caller may not do this
│   └── CapabilityRefusedError       tasks name what APFLOW_ALLOWED_CAPABILITIES does not allow
├── ConflictError (RuntimeError)     the state of a task forbids it now
│   ├── IllegalMoveError             not in the table of moves
│   ├── AlreadyRunningError          a living owner has the tree
│   │   └── OwnerLostError           another process has taken it over
│   ├── MoveLostError                another writer changed the task first
│   ├── IdTakenError                 a task of that id exists
│   ├── KeyUsedError                 an idempotency key stands for other tasks
│   └── ApprovalClosedError          the approval no longer waits for a decision
├── LimitExceededError (RuntimeError) no more runs are taken now
│   └── ScheduleLimitError           no more schedules are taken
├── BudgetExceededError (RuntimeError) a budget has not enough left for a call of a model
├── ModelPriceUnknownError (RuntimeError) a budget limits money, and a model has no known price
├── GenerationFailedError (RuntimeError) no tree of tasks was generated
├── StoreError (RuntimeError)        the store cannot do its work
│   ├── StoreLockedError             another process holds the file
│   │   └── StoreHeldError           ... and does not do this for other processes
│   ├── HolderGoneError              that process ended before it answered
│   ├── StoreForkedError             opened by the process that this one was forked from
│   ├── StoreDamagedError            the file is damaged, or is not a database
│   ├── StoreUnavailableError        it cannot write or be reached for the moment
│   ├── StoreOutcomeUnknownError     it is not known whether a change is stored
│   ├── StoreVersionError            written by a newer apflow
│   └── FormerDatabaseError          written by the system before apflow
├── ExecutorNotFoundError            no executor of that id is known
├── PluginError (RuntimeError)       a plugin cannot be used
│   ├── PluginLoadError              it cannot be imported
│   ├── PluginConflictError          two own one name
│   └── ExtensionTakenError          another class holds the id
├── RunnerError (RuntimeError)       a runner cannot make a call
│   ├── CallLostError                what made the call has ended, or cannot be reached
│   ├── ResourceError                this process lacks what the call needs
│   └── RunnerUnavailableError       it makes no calls now
├── SecretNotFoundError              no provider knows the secret
├── SecretRefusedError (RuntimeError) the secret policy does not permit its use
│   └── SecretHostRefusedError       the secret may not be sent to that host
├── SecretUnusableError              a provider returned something else than text
└── ExecutorError (RuntimeError)     an executor's own failure, for its authors to raise
    ├── AddressRefusedError          the network policy forbids the address
    ├── FileRefusedError             the file policy forbids the path
    ├── HostNotFoundError            a host that has no address
    └── HostUnreachableError         none of its addresses can be reached
```

An error takes facts and builds its sentence: what happened, why, what to do. The facts stay attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ApflowError(Exception):
    """The root of the tree above."""


class InvalidInputError(ApflowError, ValueError):
    """What the caller gave cannot be used. `violations` lists every fault that was found."""

    def __init__(self, message: str, violations: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.violations = list(violations)


class TreeInvalidError(InvalidInputError):
    """An array of tasks, or a stored tree, that no run could ever finish."""


class ValidationError(InvalidInputError):
    """Inputs, parameters or a result that break their schema; each violation with its path."""


class InputsError(ValidationError):
    """Inputs that cannot be built: a reference that is malformed or finds nothing."""


class AmbiguousTaskError(InvalidInputError):
    """A name, such as a path, that several tasks have.

    `task_ids` has the ids of the tasks, and `violations` a description of each.
    """

    def __init__(self, name: str, candidates: Mapping[str, str], what: str = "tasks") -> None:
        described = list(candidates.values())
        shown = ", ".join(described[:5]) + (f" and {len(described) - 5} more" if len(described) > 5 else "")
        super().__init__(f"{name!r} matches {len(described)} {what}: {shown}. Give a full id.", described)
        self.name = name
        self.task_ids = list(candidates)


class FlowError(InvalidInputError):
    """A flow that cannot be built: its code uses the result of a task before the task has run."""


class QueryError(InvalidInputError):
    """A JMESPath expression that is invalid, or that fails on its value."""

    def __init__(self, text: str, cause: str) -> None:
        shown = text if len(text) <= 100 else f"{text[:97]}..."
        super().__init__(f"The JMESPath {shown!r} fails: {cause}")
        self.text, self.cause = text, cause


class MalformedTextError(InvalidInputError):
    """Text that cannot be parsed as JSON or YAML. Carries the fault and, if known, its place."""

    def __init__(self, fault: str, line: int | None = None, column: int | None = None) -> None:
        place = "" if line is None else f"line {line}, column {column}: "
        super().__init__(f"{place}{fault}.")
        self.fault, self.line, self.column = fault, line, column


class MalformedFileError(InvalidInputError):
    """The text of a file is not valid JSON, or not valid YAML, whichever it seems to be."""

    def __init__(self, language: str, error: MalformedTextError) -> None:
        super().__init__(f"not valid {language}: {error}")
        self.language, self.error = language, error


class SettingsError(InvalidInputError):
    """A setting that is unknown or has a value of the wrong kind."""


class NotFoundError(ApflowError, KeyError):
    """No task has this id."""

    def __init__(self, task_id: str, advice: str = "") -> None:
        known = advice or "`apflow tasks list` shows the ones there are."
        super().__init__(f"There is no task {task_id!r}. {known}")
        self.task_id = task_id

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr


class ScheduleNotFoundError(NotFoundError):
    """No schedule has this id or name. `task_id` has what was given."""

    def __init__(self, schedule_id: str) -> None:
        ApflowError.__init__(
            self, f"There is no schedule {schedule_id!r}. `apflow schedules list` shows the ones there are."
        )
        self.task_id = schedule_id


class ApprovalNotFoundError(NotFoundError):
    """The present execution of a task has asked for no approval."""

    def __init__(self, task_id: str) -> None:
        ApflowError.__init__(
            self,
            f"Task {task_id!r} has not asked for an approval. `apflow approvals list` shows those that wait.",
        )
        self.task_id = task_id


class NoResultError(ApflowError, KeyError):
    """A task whose result was asked for has not completed, or no task has the key."""

    def __init__(self, key: str, status: str | None = None, error: str | None = None) -> None:
        if status is None:
            said = f"No task has the key {key!r}. print(tree) shows the tasks, and list(results) the keys."
        else:
            said = f"Task {key!r} has no result: it is {status}{f': {error}' if error else ''}."
        super().__init__(said)
        self.key, self.status, self.error = key, status, error

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr


class RunFailedError(ApflowError, RuntimeError):
    """A result was requested of a run that has not completed."""

    def __init__(self, root_id: str, status: str, error: str | None) -> None:
        super().__init__(
            f"Tree {root_id!r} is {status}: {error or 'no error is stored'}. "
            f"`apflow tasks tree {root_id}` shows its tasks."
        )
        self.root_id, self.status, self.error = root_id, status, error


class ForbiddenError(ApflowError, PermissionError):
    """The caller may not do this. What a caller may not even see is not found instead."""


MAX_SHOWN_VIOLATIONS = 5  # in one message


class CapabilityRefusedError(ForbiddenError):
    """Tasks name executors, hosts, programs, images or secrets that are not allowed here.

    Attributes:
        violations: each with its task and the input that names it.
    """

    def __init__(self, what: str, violations: Sequence[str]) -> None:
        shown = " ".join(violations[:MAX_SHOWN_VIOLATIONS])
        left_out = len(violations) - MAX_SHOWN_VIOLATIONS
        more = f" (and {left_out} more)" if left_out > 0 else ""
        super().__init__(f"{what} by APFLOW_ALLOWED_CAPABILITIES: {shown}{more} An operator can add to it.")
        self.violations = list(violations)


class ConflictError(ApflowError, RuntimeError):
    """The state of a task forbids what was asked, at this moment."""


class IllegalMoveError(ConflictError):
    """A change of state that the table of moves does not know."""

    def __init__(self, task_id: str, old: str, new: str) -> None:
        super().__init__(f"Task {task_id!r} cannot go from {old!r} to {new!r}.")
        self.task_id, self.old, self.new = task_id, old, new


class AlreadyRunningError(ConflictError):
    """A living owner runs the tree."""

    def __init__(self, root_id: str) -> None:
        super().__init__(f"Tree {root_id!r} is running already. Wait for it, watch it, or cancel it first.")
        self.root_id = root_id


class OwnerLostError(AlreadyRunningError):
    """Another process has taken over a tree that this one ran, or may have done so by now."""

    def __init__(self, root_id: str) -> None:
        super().__init__(root_id)
        self.args = (
            f"Tree {root_id!r} belongs to another process now; this one has stopped its work there.",
        )


class MoveLostError(ConflictError):
    """Another writer changed these tasks first, so nothing was written."""

    def __init__(self, task_ids: Sequence[str]) -> None:
        shown = ", ".join(repr(each) for each in task_ids[:5]) + (", ..." if len(task_ids) > 5 else "")
        super().__init__(f"Nothing was written: the state of {shown} is not what was expected. Look again.")
        self.task_ids = list(task_ids)


class IdTakenError(ConflictError):
    """Tasks with these ids exist."""

    def __init__(self, task_ids: Sequence[str]) -> None:
        shown = ", ".join(repr(each) for each in task_ids[:5]) + (", ..." if len(task_ids) > 5 else "")
        super().__init__(
            f"{len(task_ids)} task id(s) are taken: {shown}. Leave the ids out, or choose others."
        )
        self.task_ids = list(task_ids)


class KeyUsedError(ConflictError):
    """An idempotency key stands for other tasks."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Other tasks were created with the idempotency key {key!r}. Nothing was written.")
        self.key = key


class ApprovalClosedError(ConflictError):
    """An approval no longer waits for a decision: it is decided, or its task or its time is over."""

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(f"The approval of task {task_id!r} cannot be decided: {reason}")
        self.task_id, self.reason = task_id, reason


class LimitExceededError(ApflowError, RuntimeError):
    """The limit of waiting and active runs is reached."""

    def __init__(self, limit: int, user_id: str | None = None) -> None:
        whose = "" if user_id is None else f" of user {user_id!r}"
        super().__init__(
            f"{limit} runs{whose} are waiting or active, which is the limit. Try again "
            "when some have ended, or raise max_requested or max_requested_per_user."
        )
        self.limit, self.user_id = limit, user_id


class ScheduleLimitError(LimitExceededError):
    """A user has as many schedules as are allowed."""

    def __init__(self, limit: int, user_id: str | None = None) -> None:
        whose = "The owner of the database" if user_id is None else f"User {user_id!r}"
        ApflowError.__init__(
            self,
            f"{whose} has {limit} schedules, which is the limit. Delete one, or raise "
            "max_schedules_per_user.",
        )
        self.limit, self.user_id = limit, user_id


class BudgetExceededError(ApflowError, RuntimeError):
    """A budget has not enough left for a call of a language model. The call was not made.

    Attributes:
        task_id: the task that has the budget.
        amount: what is short: "usd", "tokens", "calls" or "seconds".
        limit: how much of it the budget permits.
        charged: how much of it was spent, with what the calls of dead processes may have used.
    """

    def __init__(self, name: str, task_id: str, amount: str, limit: str, charged: str) -> None:
        super().__init__(
            f"The budget of task {name!r} ({task_id}) has not enough left for another call of a model: "
            f"{charged} of {limit} are spent. Raise it (`apflow tasks budget {task_id} --{amount} ...`) and "
            "run the task again."
        )
        self.task_id, self.amount, self.limit, self.charged = task_id, amount, limit, charged


class ModelPriceUnknownError(ApflowError, RuntimeError):
    """A budget limits money, and the price of a model is not known. The call was not made."""

    def __init__(self, model: str, task_id: str) -> None:
        super().__init__(
            f"The price of the model {model!r} is not known, and the budget of task {task_id!r} limits US "
            "dollars. Give `input_cost_per_token` and `output_cost_per_token`, or limit `tokens` instead."
        )
        self.model, self.task_id = model, task_id


class GenerationFailedError(ApflowError, RuntimeError):
    """No tree of tasks was generated. `error_type` is the class of the executor's error."""

    def __init__(self, error_type: str, reason: str) -> None:
        super().__init__(f"No tree was generated: {reason}")
        self.error_type, self.reason = error_type, reason


class StoreError(ApflowError, RuntimeError):
    """The store cannot do its work."""


class StoreLockedError(StoreError):
    """Another process holds the database file. `url` is where it can be asked, if it is a server."""

    def __init__(
        self, path: Path, pid: int | None, url: str | None = None, *, needs_token: bool = False
    ) -> None:
        holder = f"process {pid}" if pid else "another process"
        ask = ""
        if url:
            holder += f", the server at {url}"
            token = ", with a token in APFLOW_API_TOKEN or from `apflow login`" if needs_token else ""
            ask = f"send requests to that server (--server {url}{token}), "
        super().__init__(
            f"{path} is in use by {holder}. DuckDB admits one process: {ask}"
            f"wait (--wait-lock SECONDS), stop that process, or use another APFLOW_DATABASE_URL."
        )
        self.path, self.pid, self.url, self.needs_token = path, pid, url, needs_token


class StoreHeldError(StoreLockedError):
    """The process that holds the database file, since `seconds`, does not do this for other processes."""

    def __init__(self, path: Path, pid: int, seconds: float = 0.0) -> None:
        super().__init__(path, pid)
        self.args = (
            f"{path} is in use by process {pid}. That process answers reads, cancellations and submissions "
            "(`apflow run flow --background`), but does not create, change or run tasks for other processes. "
            "Wait for its end (--wait-lock SECONDS), or stop it and start `apflow worker` or `apflow serve`, "
            "which do that.",
        )
        self.seconds = seconds


class HolderGoneError(StoreError):
    """The process that held the database file has ended, or closed the file, before it answered."""

    def __init__(self, pid: int, *, was_sent: bool) -> None:
        unknown = " It is not known whether it executed the call." if was_sent else ""
        super().__init__(
            f"Process {pid}, which held the database, has ended or closed it.{unknown} Run the command again."
        )
        self.pid, self.was_sent = pid, was_sent


class StoreForkedError(StoreError):
    """The store was opened by another process, from which this one was forked."""

    def __init__(self, url: str, opened_by: int, used_by: int) -> None:
        super().__init__(
            f"{url} was opened by process {opened_by} and cannot be used in process {used_by}, which was "
            "forked from it: connections and threads do not survive a fork. Call create_session() in the new "
            "process, or start it by 'spawn' or 'forkserver'. A DuckDB file admits one process at a time."
        )
        self.url, self.opened_by, self.used_by = url, opened_by, used_by


class StoreDamagedError(StoreError):
    """The database file is damaged, or is not a database. `advice` says what can be recovered and how."""

    def __init__(self, url: str, cause: str, advice: str, *, doing: str = "cannot be opened") -> None:
        super().__init__(f"{url} {doing}: {cause} {advice}")
        self.url, self.cause, self.advice = url, cause, advice


class StoreUnavailableError(StoreError):
    """The store cannot write, or cannot be reached, for the moment. The same operation may succeed later.

    `reason` names the cause, such as a full disk, and neither paths nor hosts: remote callers may see it.
    """

    def __init__(self, url: str, reason: str, detail: str) -> None:
        super().__init__(f"{url} {detail}")
        self.reason = reason


class StoreOutcomeUnknownError(StoreError):
    """The answer to a write was lost, and the store could not be asked since: it may be stored, or not."""

    def __init__(self, url: str, cause: BaseException) -> None:
        super().__init__(
            f"{url} was lost before it reported whether a change is written. Look at it again once the "
            f"server is back ({cause})"
        )
        self.url = url


class StoreVersionError(StoreError):
    """The database was written by a newer apflow than this one."""

    def __init__(self, url: str, found: int, known: int) -> None:
        super().__init__(
            f"{url} has schema version {found}; this apflow knows versions up to {known}. Upgrade apflow."
        )
        self.url, self.found, self.known = url, found, known


class FormerDatabaseError(StoreError):
    """The database holds tasks of the system before apflow. Nothing was written."""

    def __init__(self, url: str) -> None:
        source = url.removeprefix("duckdb:///")
        super().__init__(
            f"{url} was written by aipartnerupflow, the predecessor of apflow, and is not changed. Choose "
            f"another database (APFLOW_DATABASE_URL) and copy the trees into it: apflow db import {source}"
        )
        self.url = url


class ExecutorNotFoundError(ApflowError, LookupError):
    """No executor of this id is known. `advice` names near matches or what to install."""

    def __init__(self, executor_id: str, advice: str = "") -> None:
        super().__init__(f"No executor is called {executor_id!r}.{' ' if advice else ''}{advice}")
        self.executor_id, self.advice = executor_id, advice


class RunnerError(ApflowError, RuntimeError):
    """A runner cannot make a call of an executor."""


class ResourceError(RunnerError):
    """A call needs resources that this process does not offer, and no other process can make it.

    `needs` describes what it needs, and `lacking` has the names of what is missing.
    """

    def __init__(self, needs: str, lacking: Sequence[str]) -> None:
        super().__init__(
            f"The call needs {needs}, and this process does not offer {', '.join(lacking)}. Set "
            "APFLOW_WORKER_RESOURCES (gpu=1) or APFLOW_WORKER_LABELS (zone=eu) to what it has, or use a "
            "PostgreSQL database and a worker that offers it."
        )
        self.needs, self.lacking = needs, list(lacking)


class CallLostError(RunnerError):
    """What made a call has ended without an outcome, or cannot be reached. Its code may have run.

    `where` names it, such as the address of a worker.
    """

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(f"The call was lost with {where}: {detail}")
        self.where = where


class RunnerUnavailableError(RunnerError):
    """A runner makes no calls now. The call was not made."""


class PluginError(ApflowError, RuntimeError):
    """A plugin cannot be used."""


class PluginLoadError(PluginError):
    """A plugin that cannot be imported. The cause is chained.

    `may_pass`: the process lacked a resource, such as a free file descriptor; the next use tries again.
    """

    def __init__(
        self, group: str, name: str, distribution: str, version: str, cause: str, *, may_pass: bool = False
    ) -> None:
        super().__init__(f"{name!r} ({group}) of {distribution} {version} cannot be loaded: {cause}")
        self.group, self.name, self.distribution, self.version = group, name, distribution, version
        self.may_pass = may_pass


class PluginConflictError(PluginError):
    """Two distributions own one name."""

    def __init__(self, group: str, name: str, distributions: Sequence[str]) -> None:
        owners = " and ".join(distributions)
        super().__init__(
            f"{name!r} ({group}) is offered by {owners}. "
            f"Uninstall one, or choose with the setting plugins.prefer "
            f"(APFLOW_PLUGINS_PREFER={name}={distributions[0]})."
        )
        self.group, self.name, self.distributions = group, name, list(distributions)


class ExtensionTakenError(PluginError):
    """Another class holds the id of what is registered."""

    def __init__(self, extension_id: str, holder: str, newcomer: str) -> None:
        super().__init__(
            f"{newcomer} cannot be {extension_id!r}: that is {holder}. "
            f"Choose another id (executor_id=), or replace it with override=True."
        )
        self.extension_id, self.holder, self.newcomer = extension_id, holder, newcomer


class SecretNotFoundError(ApflowError, LookupError):
    """No provider knows the secret."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Secret {name!r} is not set. Set APFLOW_SECRET_{name.upper()}, or install a provider."
        )
        self.name = name


class SecretRefusedError(ApflowError, RuntimeError):
    """The secret policy does not permit the use of a secret."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Secret {name!r} is refused: {reason}")
        self.name = name


class SecretHostRefusedError(SecretRefusedError):
    """A task holds a secret that is not granted for the host that it connects to."""

    def __init__(self, name: str, host: str, hosts: Sequence[str]) -> None:
        permitted = ", ".join(hosts) or "no host that every author of the tree is granted"
        super().__init__(
            name, f"it is not granted for the host {host!r}, only for {permitted} (APFLOW_SECRET_POLICY)."
        )
        self.host, self.hosts = host, tuple(hosts)


class SecretUnusableError(ApflowError, TypeError):
    """A provider returned something else than text for a secret."""

    def __init__(self, name: str, provider: str, kind: str) -> None:
        super().__init__(
            f"The secret provider {provider!r} returned {kind} for secret {name!r}. "
            "It must return str or None."
        )
        self.name, self.provider, self.kind = name, provider, kind


class ExecutorError(ApflowError, RuntimeError):
    """An executor's own failure. Subclass it: the class name becomes the task's `error_type`."""


class AddressRefusedError(ExecutorError):
    """The network policy forbids to connect to an address."""

    def __init__(self, host: str, address: str, rule: str) -> None:
        where = address if host == address else f"{host} ({address})"
        super().__init__(
            f"Connecting to {where} is refused: that is {rule}. Where it is meant, permit it: "
            f"APFLOW_NET_ALLOW={address} (addresses, networks and hosts, comma separated)."
        )
        self.host, self.address, self.rule = host, address, rule


class FileRefusedError(ExecutorError):
    """The file policy does not permit a path that a task names."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"The file {path!r} is refused: {reason}.")
        self.path, self.reason = path, reason


class HostNotFoundError(ExecutorError):
    """A host that has no address."""

    def __init__(self, host: str, cause: str) -> None:
        super().__init__(f"The host {host!r} cannot be found: {cause}. Check its name, and the DNS here.")
        self.host = host


class HostUnreachableError(ExecutorError):
    """None of a host's addresses can be reached."""

    def __init__(self, host: str, port: int, cause: str) -> None:
        super().__init__(
            f"{host} cannot be reached at port {port}: {cause}. Check that the server runs and listens there."
        )
        self.host, self.port = host, port
