"""The pieces of the documents that cannot run alone, each completed by a frame. The list says which.

A piece of a schema is put in a schema, a function in a class, and a name that a piece uses is defined.
They run under the former name on DuckDB.
"""

import re
from textwrap import indent

import pytest
from seedprograms import PRINTED, Seeds

FORMER_ON_DUCKDB = pytest.mark.parametrize(
    "seeds", [("aipartnerupflow", "duckdb")], indirect=True, ids="-".join
)
pytestmark = FORMER_ON_DUCKDB

# Makes an executor of the `get_input_schema` that a document prints alone; it returns its inputs.
DESCRIBED = """
class Described(BaseTask):
    id = "described"
    get_input_schema = get_input_schema

    async def execute(self, inputs):
        return dict(inputs)

executor_register()(Described)
"""
OF_PROPERTIES = 'def get_input_schema(self):\n    return {"type": "object", "properties": properties}\n'


def text_of(printed: str) -> str:
    return (PRINTED / printed).read_text()


def checks(good: dict, becomes: dict, bad: dict) -> str:
    """Return a piece that runs `described` with good inputs and with bad ones."""
    return f"""
    done = await run("described", {good!r})
    assert done.result == {becomes!r}, done.result
    refused = await run("described", {bad!r})
    assert refused.result["error_type"] == "ValidationError"
    """


def test_an_execute_alone_is_that_of_a_task(seeds: Seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/component_execute.py"),
        "printed.py",
        """
        assert (await run("printed")).result == {"status": "completed", "result": "..."}
        """,
        "def perform_operation(inputs):\n    return inputs['n']\n\n",
        seeds.bring("custom_tasks_older/execute_method.py"),
        "printed.py",
        """
        assert (await run("printed", {"n": 3})).result == {"status": "completed", "result": 3}
        """,
        seeds.bring("custom_tasks_older/task_context.py"),
        "printed.py",
        """
        assert (await run("printed")).result == {"status": "completed"}
        """,
    )


def test_inputs_that_are_checked_early_fail_the_task(seeds: Seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/validate_inputs_early.py"),
        "printed.py",
        """
        assert (await run("printed")).error == "URL is required"
        assert (await run("printed", {"url": 3})).error == "URL must be a string"
        assert (await run("printed", {"url": "x"})).status == "completed"
        """,
        seeds.bring("custom_tasks_older/validate_inputs.py"),
        "printed.py",
        """
        assert (await run("printed")).result["error_type"] == "ValueError"
        assert (await run("printed", {"url": 3})).result["error_type"] == "TypeError"
        assert (await run("printed", {"url": "x"})).status == "completed"
        """,
    )


def test_errors_that_are_returned_or_raised_fail_the_task(seeds: Seeds):
    seeds.run_pieces(
        "frame.py",
        """
        class SpecificError(Exception):
            pass

        def perform_operation(inputs):
            if "raise" in inputs:
                kinds = {"value": ValueError, "key": KeyError, "own": SpecificError}
                raise kinds[inputs["raise"]]("no power")
            return "done"
        """,
        seeds.bring("custom_tasks_older/returning_errors.py"),
        "printed.py",
        """
        assert (await run("printed")).result == {"status": "completed", "result": "done"}
        for raised, kind in (("value", "ValueError"), ("key", "KeyError")):
            failed = await run("printed", {"raise": raised})
            assert (failed.status, failed.result["error_type"]) == ("failed", kind)
        """,
        seeds.bring("custom_tasks_older/raising_exceptions.py"),
        "printed.py",
        """
        assert (await run("printed")).result["error_type"] == "ValueError"
        assert (await run("printed", {"required_param": 1})).status == "completed"
        """,
        seeds.bring("custom_tasks_older/handle_errors.py"),
        "printed.py",
        """
        failed = await run("printed", {"raise": "own"})
        assert (failed.error, failed.result["error_code"]) == ("Operation failed: no power", "SPECIFIC_ERROR")
        """,
        seeds.bring("extending/error_handling.py"),
        "printed.py",
        """
        undefined = await run("printed")
        assert (undefined.status, undefined.result["error_type"]) == ("failed", "execution_error")
        result = {"n": 1}
        assert (await run("printed")).result == {"status": "completed", "result": {"n": 1}}
        """,
    )


def test_the_form_of_an_error_is_that_of_a_task_that_raised(seeds: Seeds):
    seeds.write("error_response.txt", text_of("python_api/error_response.txt"))
    seeds.run_pieces(
        "frame.py",
        """
        import ast
        from pathlib import Path

        async def execute(self, inputs):
            raise RuntimeError("no power")
        """,
        "printed.py",
        """
        form = ast.literal_eval(Path("error_response.txt").read_text())
        failed = await run("printed")
        assert form.keys() <= failed.result.keys() | {"status"}
        assert failed.status == form["status"]
        assert "no power" in failed.error
        """,
    )


@pytest.mark.parametrize(
    ("good", "bad", "second"),
    [
        ("custom_tasks/async_good.py", "custom_tasks/async_bad.py", ""),
        ("extending/async_io.py", "", "async def second("),
        ("custom_tasks_older/async_io.py", "", "async def second("),
    ],
)
def test_good_and_bad_ways_to_wait_for_the_network_work(
    seeds: Seeds, server: str, good: str, bad: str, second: str
):
    printed = text_of(good) + (text_of(bad) if bad else "")
    first, last = printed.split("async def execute(self, ", 2)[1:]
    as_two = f"async def execute(self, {first}async def second(self, {last}"
    seeds.write("both.py", printed.partition("async def")[0] + as_two)
    answer = {"path": "/x", "asked": None}
    seeds.run_pieces(
        "frame.py",
        f"import aiohttp\nimport requests\nurl = '{server}/x'\n",
        "both.py",
        "printed.py",
        "good = await run('printed')\n\n",
        "execute = second\n\n",
        "printed.py",
        f"""
        for done in (good, await run("printed")):
            assert done.result["data"] == {answer!r}
        """,
    )


SCHEMAS: dict[str, tuple[dict, dict, dict]] = {
    # printed: (inputs, what they become, inputs that are refused)
    "custom_tasks/component_schema.py": ({"param1": "x"}, {"param1": "x"}, {"param1": 1}),
    "custom_tasks/schema_basic.py": ({"name": "x"}, {"name": "x"}, {"name": "x", "age": "old"}),
    "custom_tasks/schema_complete.py": (
        {"url": "https://example.com"},
        {"url": "https://example.com", "method": "GET", "timeout": 30, "retry": False},
        {"url": "https://example.com", "timeout": 301},
    ),
    "extending/input_validation.py": (
        {"required_field": "x"},
        {"required_field": "x", "optional_field": 0},
        {"optional_field": 1},
    ),
    "custom_tasks_older/schema_method.py": ({"url": "x"}, {"url": "x", "timeout": 30}, {}),
    "custom_tasks_older/schema_format.py": ({"field_name": "x"}, {"field_name": "x"}, {"field_name": 1}),
}
PROPERTIES: dict[str, tuple[dict, dict, dict]] = {
    "custom_tasks/schema_array.txt": ({"items": ["a"]}, {"items": ["a"]}, {"items": []}),
    "custom_tasks/schema_object.txt": ({"config": {"key": "k"}}, {"config": {"key": "k"}}, {"config": 1}),
    "custom_tasks/schema_enum.txt": ({}, {"status": "pending"}, {"status": "asleep"}),
    "custom_tasks/schema_default.txt": ({}, {"timeout": 30}, {"timeout": "soon"}),
    "custom_tasks_older/schema_default.txt": ({}, {"timeout": 30}, {"timeout": "soon"}),
    "custom_tasks_older/schema_description.txt": ({"url": "x"}, {"url": "x"}, {"url": 1}),
    "custom_tasks_older/schema_enum.txt": ({"method": "PUT"}, {"method": "PUT"}, {"method": "TRACE"}),
}


def test_a_schema_is_that_of_an_executor(seeds: Seeds):
    pieces = ["frame.py", "false = False  # one document writes it as JSON does\n\n"]
    for printed, inputs in SCHEMAS.items():
        pieces += [seeds.bring(printed, printed.replace("/", "_")), DESCRIBED, checks(*inputs)]
    seeds.run_pieces(*pieces)


def test_properties_and_required_fields_are_those_of_a_schema(seeds: Seeds):
    pieces = ["frame.py"]
    for printed, inputs in PROPERTIES.items():
        piece = f"properties = {{\n{text_of(printed)}}}\n"
        pieces += [piece, OF_PROPERTIES, DESCRIBED, checks(*inputs)]
    good = {"name": "x", "email": "y"}
    described = "def get_input_schema(self):\n    return schema\n"
    piece = f"schema = {text_of('custom_tasks/schema_required.txt')}"
    seeds.run_pieces(*pieces, piece, described, DESCRIBED, checks(good, good, {"name": "x"}))


def test_a_class_without_a_body_becomes_an_executor_with_one(seeds: Seeds):
    of_a_body = """
        class Whole({name}):
            async def execute(self, inputs):
                return {{"ran": self.id}}

        executor_register(Whole(), executor_id="{id}", override=True)
        assert (await run("{id}")).result["ran"] == {ran!r}
        """
    of_task = of_a_body.format(name="MyTask", id="my_task", ran="my_task")
    of_custom = of_a_body.format(name="MyCustomTask", id="my_custom_task", ran="my_custom_task")
    seeds.bring("custom_tasks_older/my_custom_task.py", "my_module.py")
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/base_task.py"),
        of_task,
        seeds.bring("custom_tasks/executable_task.py"),
        of_task,
        seeds.bring("custom_tasks_older/decorated.py"),
        of_custom,
        seeds.bring("custom_tasks_older/import_it.py"),
        """
        get_registry().register(MyCustomTask, override=True)
        assert (await run("my_custom_task", {"param1": "x"})).status == "completed"
        """,
        seeds.bring("custom_tasks/document_tasks.py"),
        "MyCustomTask.id = 'documented'\n\n",
        of_a_body.format(name="MyCustomTask", id="documented", ran="documented"),
        seeds.bring("custom_tasks_older/document_tasks.py", "document_older.py"),
        "MyCustomTask.id = 'documented'\n\n",
        of_a_body.format(name="MyCustomTask", id="documented", ran="documented"),
        """
        assert Whole().description == "Processes input data using configured processing mode"
        """,
    )


def test_properties_are_those_of_an_executor(seeds: Seeds):
    names = ("id_property", "name_property", "description_property")
    body = "".join(indent(text_of(f"custom_tasks_older/{each}.py"), "    ") for each in names)
    seeds.run_pieces(
        "frame.py",
        f"class Named(ExecutableTask):\n{body}\n    async def execute(self, inputs):\n        return {{}}\n",
        """
        get_registry().register(Named())
        assert (await run("my_task_id")).status == "completed"
        assert Named().name == "My Task Name"
        assert Named().description == "This task performs specific operations"
        """,
    )


def test_focused_and_unfocused_tasks_are_classes(seeds: Seeds):
    printed = text_of("custom_tasks_older/focused.py")
    with_bodies = re.sub(r"(?m)^(    # .*)$", r"\1\n    pass", printed)
    assert with_bodies.count("pass") == 2
    seeds.run_pieces(
        "frame.py",
        with_bodies,
        """
        assert issubclass(FetchUserDataTask, ExecutableTask)
        assert issubclass(ProcessEverythingTask, ExecutableTask)
        """,
    )


def test_consistent_and_inconsistent_results_are_results(seeds: Seeds):
    returns = re.split(r"(?m)^(?=return)", text_of("custom_tasks/consistent_results.py"))[1:]
    placed = [each.replace("{...}", '{"took": 1}') for each in returns]
    expected = [{"status": "completed", "result": 5, "metadata": {"took": 1}}, 5, {"data": 5}]
    assert len(placed) == len(expected)
    pieces: list[str] = []
    for each, result in zip(placed, expected, strict=True):
        head = "async def execute(self, inputs):\n    result = 5\n"
        pieces += [head + indent(each, "    "), "printed.py"]
        pieces.append(f"\nassert (await run('printed')).result == {result!r}\n")
    seeds.run_pieces("frame.py", *pieces)


def test_the_unit_test_passes_where_the_executor_returns_a_status(seeds: Seeds):
    seeds.bring("custom_tasks/greeting_executor.py")
    seeds.write(
        "my_executors.py",
        "import greeting_executor\n\n"
        "class GreetingExecutor(greeting_executor.GreetingExecutor):\n"
        "    async def execute(self, inputs):\n"
        '        return {"status": "completed"} | await super().execute(inputs)\n',
    )
    assert "1 passed" in seeds.run_tests(seeds.bring("custom_tasks/unit_testing.py"))


def test_a_method_has_the_signature_that_the_reference_prints(seeds: Seeds):
    """It prints calls with annotations, which no Python reads: the call becomes the head of a function."""
    pieces = ["frame.py", "import inspect\n\n"]
    for method in ("signature_distribute", "signature_streaming", "signature_cancel"):
        printed = text_of(f"python_api/{method}.py").strip()
        name = re.search(r"task_manager\.(\w+)\(", printed)[1]
        pieces.append(re.sub(r"^(result = )?await task_manager\.", "async def ", printed) + ": ...\n")
        pieces.append(f"""
        printed = inspect.signature({name}).parameters
        ours = inspect.signature(task_manager.{name}).parameters
        assert [*printed] == [each for each in ours if ours[each].kind is not inspect.Parameter.KEYWORD_ONLY]
        for each in printed:
            assert printed[each].default == ours[each].default
        """)
    seeds.run_pieces(*pieces)
