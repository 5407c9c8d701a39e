"""What extends apflow in this process: executors, storages, hooks and tools, by id.

Executors are registered in code, offered by installed distributions, or named by a setting. `get_executor`
returns any of them, and imports only the requested one.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar, cast, overload

from apflow.core import plugins
from apflow.core.bounds import MAX_COUNT, is_integer
from apflow.core.concurrency.containment import log_error, read_attribute
from apflow.core.errors import (
    ExecutorNotFoundError,
    ExtensionTakenError,
    InvalidInputError,
    PluginError,
    PluginLoadError,
    SettingsError,
    ValidationError,
)
from apflow.core.extensions.executor import (
    NO_RESOURCES,
    BaseTask,
    ExecutableTask,
    input_schema_of,
)
from apflow.core.extensions.executor_call import import_path_of
from apflow.core.extensions.first_party import FIRST_PARTY
from apflow.core.extensions.hooks import (
    OfExecutor,
    TaskPostHook,
    TaskPreHook,
    register_post_hook,
    register_pre_hook,
)
from apflow.core.extensions.named import NamedExecutor, named_executor, named_executor_ids
from apflow.core.model.ids import fault_of_extension_id
from apflow.core.model.resources import fault_of
from apflow.core.model.task import EFFECTS, Json, Task
from apflow.core.payload.schema import InputSchema, compile_schema

logger = logging.getLogger(__name__)

GROUP = "apflow.executors"


class ExtensionCategory(StrEnum):
    """What an extension is for."""

    EXECUTOR = "executor"
    STORAGE = "storage"
    HOOK = "hook"
    TOOL = "tool"


class Extension:
    """Something with an id that can be registered. Executors do not have to inherit from it."""

    id: str = ""
    name: str = ""
    description: str = ""
    category: ExtensionCategory = ExtensionCategory.HOOK


class StorageExtension(Extension, ABC):
    """A custom place to keep tasks, in addition to the store that runs them."""

    category = ExtensionCategory.STORAGE

    @abstractmethod
    async def save_task(self, task: Task) -> Any:
        """Keep a task."""

    @abstractmethod
    async def get_task(self, task_id: str) -> Any:
        """Return a task that was kept."""


Factory = Callable[..., ExecutableTask]
Registrable = ExecutableTask | type[ExecutableTask] | Extension | type[Extension]
AnyRegistrable = TypeVar("AnyRegistrable", bound=Registrable)


@dataclass(frozen=True)
class ExecutorEntry:
    """An executor that can be run: the class that makes it, or the instance that is copied."""

    executor_id: str
    source: ExecutableTask | type[ExecutableTask]
    distribution: str | None = None  # None: registered in code
    factory: Factory | None = None  # makes the instances in place of the class
    _schemas: list[InputSchema | None] = field(default_factory=list["InputSchema | None"], repr=False)

    def make(self, params: Mapping[str, Json] | None = None) -> ExecutableTask:
        """Return an instance for one run. `executor_id` among the parameters is left out.

        Raises:
            ValidationError: the executor does not take these parameters.
        """
        taken = {name: value for name, value in params.items() if name != "executor_id"} if params else {}
        source = self.source
        if self.factory is not None:
            return self._made_by(self.factory, taken)
        if not isinstance(source, type):
            if taken:
                raise ValidationError(
                    f"Executor {self.executor_id!r} is a registered instance and takes no params; "
                    f"given: {', '.join(taken)}.",
                    [f"params.{name}: not known" for name in taken],
                )
            return copy.copy(source)
        if taken or not self._is_plain:
            self._check(taken)
        return source(**taken)

    def _made_by(self, factory: Factory, params: dict[str, Json]) -> ExecutableTask:
        try:
            inspect.signature(factory).bind(**params)
        except TypeError as error:
            raise ValidationError(
                f"The factory of executor {self.executor_id!r} does not take these params: {error}.",
                [f"params: {error}"],
            ) from error
        return factory(**params)

    @cached_property
    def import_path(self) -> str | None:
        """`module:name` of the class, if code has registered it and another process can import it."""
        is_class = isinstance(self.source, type) and self.factory is None
        return import_path_of(self.source) if self.distribution is None and is_class else None

    @cached_property
    def may_run_elsewhere(self) -> bool:
        """Whether another process can find and call it: it is installed, or a class that can be imported.

        What only waits stays with the tree, and so does an executor that a setting of this process names.
        """
        is_found = self.distribution is not None or self.import_path is not None
        return is_found and not self.only_waits and named_executor(self.executor_id) is None

    def schema_of(self, executor: ExecutableTask) -> InputSchema | None:
        """Return what validates the inputs of an instance.

        Raises:
            ValidationError: the executor's schema is invalid.
        """
        if not self._is_plain:
            return compile_schema(input_schema_of(executor))
        if not self._schemas:
            self._schemas.append(compile_schema(input_schema_of(executor)))
        return self._schemas[0]

    @cached_property
    def effect(self) -> str:
        """What a second run would do: "pure", "idempotent" or "once"; "once" where that cannot be read."""
        found = self._read("effect", "once", ExecutableTask.effect)
        if isinstance(found, str) and found in EFFECTS:
            return found
        self._log_unusable("effect", "pure, idempotent or once", "once")
        return "once"

    @cached_property
    def only_waits(self) -> bool:
        """Whether it only waits, so that its calls may be interrupted any number of times."""
        return self._read("only_waits", False, False) is True

    @cached_property
    def cancelable(self) -> bool:
        """Whether it ends on its own when it is cancelled."""
        return self._read("cancelable", False, False) is True

    @cached_property
    def max_concurrency(self) -> int | None:
        """How many may run at once in this process; 1 where that cannot be read."""
        found = self._read("max_concurrency", 1, None)
        if found is None or (type(found) is int and found > 0):
            return found
        self._log_unusable("max_concurrency", "a positive whole number or None", "1")
        return 1

    @cached_property
    def resources(self) -> Mapping[str, Json]:
        """The amounts and labels that the process which calls it must offer."""
        found = self._read("resources", None, NO_RESOURCES)
        if isinstance(found, Mapping):
            resources = cast("Mapping[str, Json]", found)
            if not any(fault_of(name, value) for name, value in resources.items()):
                return resources
        self._log_unusable("resources", "a mapping of names to amounts and labels", "no resources")
        return NO_RESOURCES

    @cached_property
    def reports_status(self) -> bool:
        """Whether a result with the status "failed" or "cancelled" ends the task in that way."""
        return self._read("reports_status", True, True) is not False

    @cached_property
    def uses_net_policy(self) -> bool:
        """Whether it sends inputs only over connections that the network policy judges."""
        return self._read("uses_net_policy", False, False) is True

    def _read(self, name: str, unreadable: object, default: object) -> object:
        """Return an attribute of plain type; `unreadable` where users' code raises."""
        try:
            found = _attribute(self.source, name, default)
        except Exception as error:  # noqa: BLE001 - the border to users' code
            message = "`%s` of executor %s cannot be read; %r is used."
            log_error(logger, message, name, self.executor_id, unreadable, error=error)
            return unreadable
        return str.__str__(found) if isinstance(found, str) else found

    def _log_unusable(self, name: str, expected: str, used: str) -> None:
        message = "`%s` of executor %s is not %s; %s is used."
        logger.error(message, name, self.executor_id, expected, used)

    @cached_property
    def _signature(self) -> inspect.Signature:
        if isinstance(self.source, type) and self.source.__init__ is BaseTask.__init__:
            return inspect.Signature()  # what that takes is not for the params of tasks
        return inspect.signature(cast("Callable[..., Any]", self.source))

    @cached_property
    def _is_plain(self) -> bool:
        """Whether all instances are made alike: from a class without parameters."""
        is_class = isinstance(self.source, type) and self.factory is None
        return is_class and not self._signature.parameters

    def _check(self, params: Mapping[str, Json]) -> None:
        try:
            self._signature.bind(**params)
        except TypeError as error:
            known = ", ".join(self._signature.parameters) or "none"
            raise ValidationError(
                f"Executor {self.executor_id!r} cannot be made: {error}. It takes these params: {known}.",
                [f"params: {error}"],
            ) from error


class ExtensionRegistry:
    """What has been registered in this process, by category and id."""

    def __init__(self) -> None:
        self._held: dict[ExtensionCategory, dict[str, Registrable]] = {each: {} for each in ExtensionCategory}
        self._overrides: set[str] = set()
        self._entries: dict[str, ExecutorEntry] = {}
        self._factories: dict[str, Factory] = {}
        # Apart from the other entries, because settings may change.
        self._named: dict[NamedExecutor, ExecutorEntry] = {}

    def register(
        self,
        extension: Registrable,
        executor_id: str | None = None,
        override: bool = False,
        *,
        factory: Factory | None = None,
    ) -> None:
        """Register a class or an instance, under its own id or the one given.

        Args:
            executor_id: the id to register under; by default the executor's own.
            override: replace another class that holds the id.
            factory: makes the instances of an executor, from the `params` of a task.

        Raises:
            ExtensionTakenError: another class holds the id and `override` is not given.
            InvalidInputError: the id is reserved or cannot be used, or `max_concurrency` is out of range.
        """
        category, key = _category(extension), executor_id or _id_of(extension)
        fault = fault_of_extension_id(key)
        if fault is not None:
            raise InvalidInputError(
                f"{_class_name(extension)} cannot be registered as {key!r}: {fault}. Choose another id."
            )
        _check_concurrency(extension)
        held = self._held[category].get(key)
        if held is not None and not override and _class_name(held) != _class_name(extension):
            raise ExtensionTakenError(key, _class_name(held), _class_name(extension))
        self._held[category][key] = extension
        if category is ExtensionCategory.EXECUTOR:
            self._entries.pop(key, None)
            self._factories.pop(key, None)
            if factory is not None:
                self._factories[key] = factory
            if override:
                self._overrides.add(key)

    def unregister(self, extension_id: str, category: ExtensionCategory | None = None) -> bool:
        """Forget what is registered under an id, and say whether there was anything."""
        categories = [category] if category else list(ExtensionCategory)
        found = [self._held[each].pop(extension_id, None) for each in categories]
        self._entries.pop(extension_id, None)
        self._factories.pop(extension_id, None)
        self._overrides.discard(extension_id)
        return any(each is not None for each in found)

    def replace(self, executor_id: str, executor: type[ExecutableTask]) -> Callable[[], None]:
        """Register an executor in place of the one of an id, and return the function that undoes it."""
        executors = self._held[ExtensionCategory.EXECUTOR]
        held, factory = executors.get(executor_id), self._factories.get(executor_id)
        was_override = executor_id in self._overrides
        self.register(executor, executor_id, override=True)

        def undo() -> None:
            self.unregister(executor_id, ExtensionCategory.EXECUTOR)
            if held is not None:
                self.register(held, executor_id, override=was_override, factory=factory)

        return undo

    def get_by_id(self, extension_id: str, category: ExtensionCategory | None = None) -> Registrable | None:
        """Return what is registered under an id, or the installed executor of that id, or None."""
        for each in [category] if category else list(ExtensionCategory):
            if extension_id in self._held[each]:
                return self._held[each][extension_id]
        is_executor = category in (None, ExtensionCategory.EXECUTOR)
        return self.entry(extension_id).source if is_executor and self.knows(extension_id) else None

    def is_registered(self, extension_id: str) -> bool:
        """Return whether something is registered under an id, or an executor of it is installed or named.

        Imports nothing.
        """
        return any(extension_id in held for held in self._held.values()) or self.knows(extension_id)

    def ids(self, category: ExtensionCategory) -> list[str]:
        """Return the ids registered in code in a category, in order of registration."""
        return list(self._held[category])

    def list_by_category(self, category: ExtensionCategory) -> list[Registrable]:
        """Return what is registered in a category; for executors also the installed ones that load."""
        if category is not ExtensionCategory.EXECUTOR:
            return list(self._held[category].values())
        found = (self._entry_if_usable(each) for each in self.executor_ids())
        return [entry.source for entry in found if entry is not None]

    def list_all(self) -> list[Registrable]:
        """Return everything that is registered or installed."""
        return [each for category in ExtensionCategory for each in self.list_by_category(category)]

    def get_all_by_category(self, category: ExtensionCategory) -> list[Registrable]:
        """Return what `list_by_category` returns."""
        return self.list_by_category(category)

    def list_executors(self) -> list[Registrable]:
        """Return the executors that are registered or installed, as `list_by_category` does."""
        return self.list_by_category(ExtensionCategory.EXECUTOR)

    def list_registered(self) -> list[str]:
        """Return the ids of what is registered in code, by category, and of the other executors, sorted."""
        in_code = [key for held in self._held.values() for key in held]
        return list(dict.fromkeys([*in_code, *self.executor_ids()]))

    def get_by_type(self, category: ExtensionCategory, extension_type: str) -> Registrable | None:
        """Return the first extension of a category with this `type` attribute; None if there is none."""
        found = self.list_by_category(category)
        return next((each for each in found if _attribute(each, "type", None) == extension_type), None)

    def get_executor(self, executor_id: str) -> Registrable | None:
        """Return the class or instance of an executor; None if there is none of this id."""
        return self.get_by_id(executor_id, ExtensionCategory.EXECUTOR)

    def get_storage(self, storage_id: str) -> Registrable | None:
        """Return a registered storage extension; None if there is none of this id."""
        return self.get_by_id(storage_id, ExtensionCategory.STORAGE)

    def get_hooks(self) -> list[Registrable]:
        """Return the registered extensions of the category HOOK, in order of registration."""
        return self.list_by_category(ExtensionCategory.HOOK)

    def create_executor_instance(
        self, executor_id: str, inputs: dict[str, Json] | None = None, **params: Json
    ) -> ExecutableTask:
        """Return a new instance of an executor, with `inputs` where it keeps them as a `BaseTask` does.

        Args:
            **params: arguments of the constructor.

        Raises:
            ExecutorNotFoundError: there is none of this id.
            ValidationError: the constructor does not take these arguments, or refuses them.
        """
        made = self.entry(executor_id).make(params)
        if inputs is not None and isinstance(made, BaseTask):
            made.set_inputs(inputs)
        return made

    def knows(self, executor_id: str) -> bool:
        """Return whether an executor of this id is registered, installed or named. Imports nothing."""
        return self._has(executor_id) or named_executor(executor_id) is not None

    def executor_ids(self) -> list[str]:
        """Return the ids of all executors, sorted. Imports nothing."""
        return sorted({*self._held[ExtensionCategory.EXECUTOR], *plugins.names(GROUP), *named_executor_ids()})

    def entry(self, executor_id: str) -> ExecutorEntry:
        """Return the executor of an id, imported now if it was not.

        Raises:
            ExecutorNotFoundError: there is none.
            ExtensionTakenError: one is registered and another one installed.
            PluginLoadError: it cannot be imported.
            PluginConflictError: two distributions offer it.
            SettingsError: a setting names it, and the name is taken or not usable.
        """
        named = named_executor(executor_id)
        if named is not None:
            return self._named_entry(named)
        entry = self._entries.get(executor_id)
        if entry is None:
            entry = self._entries[executor_id] = self._find(executor_id)
        return entry

    def _has(self, executor_id: str) -> bool:
        return executor_id in self._held[ExtensionCategory.EXECUTOR] or plugins.is_offered(GROUP, executor_id)

    def _named_entry(self, named: NamedExecutor) -> ExecutorEntry:
        if self._has(named.name):
            raise SettingsError(
                f"{named.place} names {named.name!r}, but an executor of that id is registered or installed. "
                "Rename the entry of the setting."
            )
        entry = self._named.get(named)
        if entry is None:
            entry = self._named[named] = ExecutorEntry(named.name, named.make(), named.distribution)
        return entry

    def _find(self, executor_id: str) -> ExecutorEntry:
        held = self._held[ExtensionCategory.EXECUTOR].get(executor_id)
        if held is None:
            return _load(executor_id)
        source = cast("ExecutableTask | type[ExecutableTask]", held)
        info = None if executor_id in self._overrides else plugins.find(GROUP, executor_id)
        if info is None:
            return ExecutorEntry(executor_id, source, factory=self._factories.get(executor_id))
        # A plugin that also registers itself does not conflict with itself.
        if _class_name(plugins.load(GROUP, executor_id)) != _class_name(held):
            installed = f"{info.value} of {info.distribution} {info.version}"
            raise ExtensionTakenError(executor_id, installed, _class_name(held))
        return ExecutorEntry(executor_id, source, info.distribution, factory=self._factories.get(executor_id))

    def _entry_if_usable(self, executor_id: str) -> ExecutorEntry | None:
        try:
            return self.entry(executor_id)
        except (PluginError, SettingsError):
            return None


_registry = ExtensionRegistry()


def get_registry() -> ExtensionRegistry:
    """Return the registry of this process."""
    return _registry


@overload
def executor_register(
    executor: AnyRegistrable,
    *,
    executor_id: str | None = None,
    override: bool = False,
    factory: Factory | None = None,
    pre_hook: TaskPreHook | None = None,
    post_hook: TaskPostHook | None = None,
) -> AnyRegistrable: ...
@overload
def executor_register(
    executor: None = None,
    *,
    executor_id: str | None = None,
    override: bool = False,
    factory: Factory | None = None,
    pre_hook: TaskPreHook | None = None,
    post_hook: TaskPostHook | None = None,
) -> Callable[[AnyRegistrable], AnyRegistrable]: ...
def executor_register(
    executor: Any = None,
    *,
    executor_id: str | None = None,
    override: bool = False,
    factory: Factory | None = None,
    pre_hook: TaskPreHook | None = None,
    post_hook: TaskPostHook | None = None,
) -> Any:
    """Register an executor: a decorator with or without a call, or a call with a class or an instance.

    Args:
        executor_id: the id to register under; by default the executor's own.
        override: replace another class that holds the id.
        factory: makes an instance from the `params` of a task, in place of the class.
        pre_hook: called with a copy of the task before each task of this executor.
        post_hook: called with the task, its inputs and its result after each task of this executor.

    Raises:
        ExtensionTakenError: another class holds the id and `override` is not given.
        InvalidInputError: the id is reserved, or cannot be used.
    """

    def register(given: Any) -> Any:
        _registry.register(given, executor_id, override, factory=factory)
        key = executor_id or _id_of(given)
        if pre_hook is not None:
            register_pre_hook(OfExecutor(key, pre_hook))
        if post_hook is not None:
            register_post_hook(OfExecutor(key, post_hook))
        return given

    return register if executor is None else register(executor)


def executor_is_known(executor_id: str) -> bool:
    """Return whether an executor of this id is registered, installed or named. Imports nothing."""
    return _registry.knows(executor_id)


def get_executor(executor_id: str) -> ExecutorEntry:
    """Return the executor of an id: see `ExtensionRegistry.entry`."""
    return _registry.entry(executor_id)


def executor_ids() -> list[str]:
    """Return the ids of all executors, registered, installed or named, sorted. Imports nothing."""
    return _registry.executor_ids()


def advise(executor_id: str) -> str:
    """Return advice on an unknown executor id: what to install, or similar ids."""
    if executor_id in FIRST_PARTY:
        return f"It is in a separate distribution: {FIRST_PARTY[executor_id].command}"
    known = executor_ids()
    near = difflib.get_close_matches(executor_id, {*known, *FIRST_PARTY}, n=3)
    named = [each if each in known else f"{each} ({FIRST_PARTY[each].command})" for each in near]
    if named:
        return f"Did you mean {' or '.join(named)}?"
    return (
        "Import the module that registers it (--import MODULE, APFLOW_IMPORT); see `apflow executors list`."
    )


def _load(executor_id: str) -> ExecutorEntry:
    info = plugins.find(GROUP, executor_id)
    if info is None:
        raise ExecutorNotFoundError(executor_id, advise(executor_id))
    loaded = plugins.load(GROUP, executor_id)
    if not (isinstance(loaded, ExecutableTask) or _is_executor_class(loaded)):
        cause = f"{info.value} is not an ExecutableTask class"
        raise PluginLoadError(GROUP, executor_id, info.distribution, info.version, cause)
    source = cast("ExecutableTask | type[ExecutableTask]", loaded)
    return ExecutorEntry(executor_id, source, info.distribution)


def _is_executor_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, ExecutableTask)


def _category(extension: Registrable) -> ExtensionCategory:
    if isinstance(extension, ExecutableTask) or _is_executor_class(extension):
        return ExtensionCategory.EXECUTOR
    category = getattr(extension, "category", None)
    if category is None:
        raise InvalidInputError(f"{extension!r} is neither an executor nor an extension with a category.")
    return ExtensionCategory(category)


def _id_of(extension: Registrable) -> str:
    found = _attribute(extension, "id", "")
    if not found and isinstance(extension, type):
        found = _id_of_instance(extension)
    if not isinstance(found, str) or not found:
        fault = f"{_class_name(extension)} has no id."
        raise InvalidInputError(
            f"{fault} Give it one (id = 'my_executor'), or register it with executor_id=."
        )
    return found


def _id_of_instance(cls: type[Any]) -> object:
    """Return the id that a class gives its instances in `__init__`."""
    try:
        return getattr(cls(), "id", "")
    except TypeError:  # it cannot be made without parameters
        return ""


def _attribute(source: object, name: str, default: object) -> object:
    """Return an attribute of an instance, or of a class; there a property is asked without `__init__`."""
    value = read_attribute(source, name, default)
    if isinstance(source, type) and isinstance(value, property | cached_property):
        try:
            return read_attribute(cast("Any", source).__new__(source), name)
        except (AttributeError, TypeError):  # the property needs what __init__ sets
            return default
    return value


def _check_concurrency(extension: object) -> None:
    limit = getattr(extension, "max_concurrency", None)
    if limit is None or isinstance(limit, property | cached_property):
        return
    if not is_integer(limit, 1, MAX_COUNT):
        raise InvalidInputError(
            f"{_class_name(extension)}.max_concurrency must be an integer from 1 to {MAX_COUNT:,}, or None."
        )


def _class_name(extension: object) -> str:
    """Return module and name: the same class defined again, as notebooks do, is the same by this."""
    cls = cast("type[Any]", extension) if isinstance(extension, type) else type(extension)
    return f"{cls.__module__}.{cls.__qualname__}"
