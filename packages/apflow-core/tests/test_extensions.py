import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apflow.core.errors import (
    ExecutorNotFoundError,
    ExtensionTakenError,
    InvalidInputError,
    PluginLoadError,
    ValidationError,
)
from apflow.core.extensions.executor import BaseTask, ExecutableTask
from apflow.core.extensions.first_party import FIRST_PARTY
from apflow.core.extensions.registry import (
    Extension,
    ExtensionCategory,
    StorageExtension,
    executor_ids,
    executor_is_known,
    executor_register,
    get_executor,
    get_registry,
)
from apflow.core.model.task import Task

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Forget what a test registers."""
    before = {category: set(get_registry().ids(category)) for category in ExtensionCategory}
    yield
    for category, known in before.items():
        for each in set(get_registry().ids(category)) - known:
            get_registry().unregister(each, category)


class Echo(BaseTask):
    id = "test_echo"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return inputs


class Named(ExecutableTask):
    @property
    def id(self) -> str:
        return "test_named"

    @property
    def name(self) -> str:
        return "Named"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return inputs


class Parted(BaseTask):
    id = "test_parted"
    effect = "once"
    cancelable = True
    max_concurrency = 2

    def __init__(self, size: int, colour: str = "red") -> None:
        self.size, self.colour = size, colour

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return self.size


@pytest.mark.parametrize(
    "register",
    [
        lambda: executor_register()(Echo),
        lambda: executor_register(Echo),
        lambda: executor_register(Echo()),
        lambda: get_registry().register(Echo()),
    ],
)
def test_every_form_of_registration_makes_the_executor_known(register: Any):
    register()
    assert executor_is_known("test_echo")
    assert "test_echo" in executor_ids()
    assert isinstance(get_executor("test_echo").make({}), Echo)
    assert get_registry().get_by_id("test_echo") is not None


def test_the_decorator_returns_what_it_was_given():
    echo = Echo()
    assert executor_register()(Echo) is Echo
    assert executor_register(echo) is echo


def test_an_id_may_be_given_instead_of_the_executors_own():
    executor_register(Echo(), executor_id="test_custom")
    assert executor_is_known("test_custom")
    assert not executor_is_known("test_echo")


@pytest.mark.parametrize("registered", [Named, Named()])
def test_an_id_that_is_a_property_is_read_from_class_and_instance(registered: Any):
    executor_register(registered)
    assert executor_is_known("test_named")


def test_an_id_that_only_instances_have_is_read_from_one():
    class Late(Echo):
        id = ""

        def __init__(self) -> None:
            self.id = "test_late"

    executor_register(Late)
    assert executor_is_known("test_late")


def test_every_run_gets_a_new_instance():
    instance = Echo()
    executor_register(instance)
    first, second = get_executor("test_echo").make({}), get_executor("test_echo").make({})
    first.task_id = "one"
    assert second.task_id is None
    assert instance.task_id is None
    assert first is not second


def test_params_go_to_the_constructor_without_the_executor_id():
    executor_register(Parted)
    entry = get_executor("test_parted")
    made = entry.make({"executor_id": "test_parted", "size": 3})
    assert isinstance(made, Parted)
    assert (made.size, made.colour) == (3, "red")
    assert (entry.effect, entry.cancelable, entry.max_concurrency) == ("once", True, 2)


@pytest.mark.parametrize(("params", "named"), [({"size": 1, "shape": 2}, "shape"), ({}, "size")])
def test_params_that_do_not_fit_are_refused_by_name(params: dict[str, Any], named: str):
    executor_register(Parted)
    with pytest.raises(ValidationError, match=named):
        get_executor("test_parted").make(params)


def test_a_registered_instance_takes_no_params():
    executor_register(Echo())
    with pytest.raises(ValidationError, match="shape"):
        get_executor("test_echo").make({"shape": 1})


def test_a_fault_inside_the_constructor_is_not_taken_for_bad_params():
    class Faulty(Parted):
        id = "test_faulty"

        def __init__(self) -> None:
            raise TypeError("inside")

    executor_register(Faulty)
    with pytest.raises(TypeError, match="inside"):
        get_executor("test_faulty").make({})


def test_the_same_class_again_replaces_in_silence():
    def define(answer: int) -> type[BaseTask]:
        class Again(Echo):
            id = "test_again"
            version = answer

        return executor_register(Again)

    define(1)
    assert getattr(get_executor("test_again").make({}), "version", None) == 1
    define(2)
    assert getattr(get_executor("test_again").make({}), "version", None) == 2


def test_another_class_of_the_same_id_is_refused_unless_it_overrides():
    class Other(Echo):
        pass

    executor_register(Echo)
    with pytest.raises(ExtensionTakenError, match=r"Echo.*override=True"):
        executor_register(Other)
    assert type(get_executor("test_echo").make({})) is Echo
    executor_register(Other, override=True)
    assert type(get_executor("test_echo").make({})) is Other


def test_an_executor_without_id_is_refused_with_advice():
    class Nameless(Echo):
        id = ""

    with pytest.raises(InvalidInputError, match=r"no id.*executor_id="):
        executor_register(Nameless)


def test_an_invalid_extension_is_rejected():
    with pytest.raises(InvalidInputError, match="neither"):
        get_registry().register("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_an_unknown_id_names_near_matches():
    executor_register(Echo)
    with pytest.raises(ExecutorNotFoundError, match="Did you mean test_echo"):
        get_executor("test_ecko")


@pytest.mark.parametrize(
    ("executor_id", "distribution"),
    [(each, FIRST_PARTY[each].distribution) for each in ("crewai_executor", "generate_executor")],
)
def test_an_unknown_first_party_id_names_what_to_install(executor_id: str, distribution: str):
    if executor_is_known(executor_id):
        pytest.skip("it is installed here")
    with pytest.raises(ExecutorNotFoundError, match=f"pip install {distribution}"):
        get_executor(executor_id)


def test_an_id_far_from_all_says_how_to_register():
    with pytest.raises(ExecutorNotFoundError, match="--import MODULE"):
        get_executor("zzzzzzzzzzzzzzz")


def test_the_schema_of_a_class_without_params_is_asked_for_once():
    asked: list[int] = []

    class Counting(Echo):
        id = "test_counting"

        def get_input_schema(self) -> dict[str, Any]:
            asked.append(1)
            return {"type": "object"}

    executor_register(Counting)
    entry = get_executor("test_counting")
    for _ in range(3):
        schema = entry.schema_of(entry.make({}))
        assert schema is not None
        assert schema.json_schema == {"type": "object"}
    assert asked == [1]


def test_storages_and_other_extensions_have_categories():
    class Shelf(StorageExtension):
        id = "test_shelf"

        async def save_task(self, task: Task) -> Any:
            return task

        async def get_task(self, task_id: str) -> Any:
            return task_id

    class Bell(Extension):
        id = "test_bell"
        category = ExtensionCategory.HOOK

    shelf, bell = Shelf(), Bell()
    get_registry().register(shelf)
    get_registry().register(bell)
    assert shelf in get_registry().list_by_category(ExtensionCategory.STORAGE)
    assert get_registry().get_by_id("test_bell") is bell
    assert get_registry().unregister("test_bell")
    assert not get_registry().is_registered("test_bell")


PLUGIN = """
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register

@executor_register()
class Installed(BaseTask):
    id = "test_installed"
    async def execute(self, inputs):
        return 1
"""


def test_an_installed_executor_is_known_by_its_entry_point_and_loaded_when_used(install: Install):
    install("installed-one", "test_installed = installed_one:Installed", PLUGIN)
    assert executor_is_known("test_installed")
    assert "test_installed" in executor_ids()
    entry = get_executor("test_installed")
    assert entry.distribution == "installed-one"
    assert entry.make().id == "test_installed"


def test_a_plugin_that_also_registers_itself_does_not_conflict_with_itself(install: Install):
    install("installed-one", "test_installed = installed_one:Installed", PLUGIN)
    importlib.import_module("installed_one")
    assert get_executor("test_installed").distribution == "installed-one"


def test_a_registered_class_and_an_installed_one_of_the_same_id_are_an_error_on_use(install: Install):
    install("installed-one", "test_installed = installed_one:Installed", PLUGIN.replace("@executor", "#"))
    executor_register(Echo, executor_id="test_installed")
    with pytest.raises(ExtensionTakenError, match=r"installed-one 1\.2"):
        get_executor("test_installed")
    executor_register(Echo, executor_id="test_installed", override=True)
    assert get_executor("test_installed").source is Echo


def test_a_plugin_that_is_not_an_executor_is_a_load_error_that_names_it(install: Install):
    install("installed-one", "test_installed = installed_one:Installed", "Installed = 3")
    with pytest.raises(PluginLoadError, match=r"installed-one 1\.2.*not an ExecutableTask class"):
        get_executor("test_installed")
    assert get_registry().list_by_category(ExtensionCategory.EXECUTOR) is not None
