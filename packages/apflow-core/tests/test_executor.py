from typing import Any, ClassVar

from pydantic import BaseModel

from apflow.core.extensions.executor import (
    BaseTask,
    ExecutableTask,
    InputsSchema,
    input_schema_of,
    overrides_cancel,
)


class Greeting(BaseModel):
    name: str
    count: int = 10


class Greeter(BaseTask):
    id = "greeter"
    inputs_schema = Greeting

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return inputs


class Described(ExecutableTask):
    def __init__(self, name: str) -> None:  # no super().__init__(), as third parties write it
        self.name = name

    @property
    def id(self) -> str:
        return "described"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        await self.report_progress(0.5, "half")
        return dict(self.dependency_results)

    async def cancel(self) -> Any:
        return {"status": "cancelled"}


class ListQueue:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def put(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def put_nowait(self, event: dict[str, Any]) -> None:
        self.events.append(event)


async def test_a_bare_instance_runs_without_an_engine_and_without_super_init():
    assert await Described("x").execute({}) == {}
    assert Described("x").cancellation_checker is None
    assert Described("x").task_id is None


async def test_progress_goes_to_the_event_queue_with_the_id_of_the_task():
    executor, queue = Described("x"), ListQueue()
    executor.task_id, executor.event_queue = "t1", queue
    await executor.execute({})
    assert queue.events == [
        {"type": "progress", "task_id": "t1", "progress": 0.5, "message": "half", "data": None}
    ]


def test_the_schema_of_a_pydantic_model_is_its_json_schema_and_the_model_itself_validates():
    assert Greeter().get_input_schema()["required"] == ["name"]
    assert input_schema_of(Greeter()) is Greeting


def test_a_json_schema_may_be_given_as_inputs_schema():
    class Plain(Greeter):
        inputs_schema: ClassVar[InputsSchema] = {"type": "object", "required": ["a"]}

    assert Plain().get_input_schema() == input_schema_of(Plain()) == {"type": "object", "required": ["a"]}


def test_an_own_get_input_schema_wins_over_the_model():
    class Own(Greeter):
        def get_input_schema(self) -> dict[str, Any]:
            return {"type": "object", "required": ["b"]}

    assert input_schema_of(Own()) == {"type": "object", "required": ["b"]}


def test_without_a_schema_everything_is_accepted():
    assert input_schema_of(Described("x")) == {"type": "object", "properties": {}}


def test_only_an_overridden_cancel_counts():
    assert overrides_cancel(Described("x"))
    assert not overrides_cancel(Greeter())
