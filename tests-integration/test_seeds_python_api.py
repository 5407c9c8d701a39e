"""The programs of the Python API reference; they are listed in `seeds/list.toml`."""

import pytest


@pytest.mark.parametrize("program", ["quick_start", "pattern_1_simple"])
def test_a_built_in_executor_tells_of_the_processor(seeds, program: str):
    shown = seeds.run(seeds.bring(f"python_api/{program}.py"))
    assert "percent" in shown


def test_a_task_manager_takes_all_its_arguments(seeds):
    seeds.run_pieces(
        seeds.bring("python_api/initialization.py"),
        """
        assert task_manager.db is db
        assert task_manager.streaming_callbacks is not None
        """,
    )


def test_tasks_in_sequence_run_in_order_and_pass_their_results_on(seeds):
    seeds.run_pieces(
        "frame.py",
        """
        calls = []

        @executor_register()
        class Fetch(BaseTask):
            id = "fetch_data"
            async def execute(self, inputs):
                calls.append("fetch")
                return {"data": [1, 2, 3]}

        @executor_register()
        class Process(BaseTask):
            id = "process_data"
            inputs_schema = {"properties": {"data": {"type": "array"}}, "required": ["data"]}
            async def execute(self, inputs):
                calls.append("process")
                return {"sum": sum(inputs["data"])}

        @executor_register()
        class Save(BaseTask):
            id = "save_results"
            async def execute(self, inputs):
                calls.append("save")
                return {"saved": inputs[task2.id]}
        """,
        seeds.bring("python_api/pattern_2_sequential.py"),
        """
        assert calls == ["fetch", "process", "save"]
        saved = await task_manager.task_repository.get_task_by_id(task3.id)
        assert saved.result == {"saved": {"sum": 6}}
        assert root["status"] == "completed"
        """,
    )


def test_tasks_without_dependencies_run_in_parallel(seeds):
    seeds.run_pieces(
        "frame.py",
        """
        meeting = asyncio.Barrier(3)

        async def execute(self, inputs):
            async with asyncio.timeout(30):
                await meeting.wait()
            return {}

        for name in ("task1", "task2", "task3"):
            executor_register(executor_id=name)(type(name, (BaseTask,), {"execute": execute}))
        """,
        seeds.bring("python_api/pattern_3_parallel.py"),
        """
        assert root["status"] == "completed"
        """,
    )


def test_errors_are_found_by_looking_at_each_task(seeds):
    shown = seeds.run_pieces(
        "frame.py",
        """
        async def execute(self, inputs):
            if inputs:
                raise RuntimeError("no power")
            return {"fine": True}
        """,
        "printed.py",
        """
        create = task_manager.task_repository.create_task
        root_task = await create(name="printed")
        bad = await create(name="printed", parent_id=root_task.id, inputs={"fail": True})
        task_tree = TaskTreeNode(root_task)
        task_tree.add_child(TaskTreeNode(bad))
        """,
        seeds.bring(
            "python_api/pattern_4_error_handling.py",
            replaced={"check_task_status(": "await check_task_status(", "def await": "async def"},
        ),
        """
        assert root_status is True
        assert await check_task_status(bad.id) is False
        """,
    )
    assert "completed: {'fine': True}" in shown
    assert "no power" in shown


def test_a_task_executor_runs_definitions(seeds):
    shown = seeds.run_pieces(
        """
        from typing import Any, Dict
        from aipartnerupflow import BaseTask, executor_register
        @executor_register()
        class MyExecutor(BaseTask):
            id = "my_executor"
            async def execute(self, inputs):
                return {"key": inputs["key"]}
        """,
        seeds.bring("python_api/pattern_5_task_executor.py"),
        """
        assert result["status"] == "completed"
        assert result["root_task_id"] == "task1"
        assert result["result"] == {"key": "value"}
        """,
    )
    assert shown.startswith("Execution result: {")


def test_a_robust_executor_returns_its_errors(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("python_api/pattern_6_robust_executor.py"),
        """
        done = await run("robust_executor", {"data": "x"})
        assert done.result == {"status": "completed", "result": {"processed": "x"}}
        empty = await run("robust_executor", {"data": ""})
        assert (empty.status, empty.error) == ("failed", "data is required")
        """,
    )


def test_an_executor_as_the_reference_prints_it_runs(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("python_api/base_task_usage.py"),
        """
        assert (await run("my_executor", {"param": "x"})).status == "completed"
        assert (await run("my_executor")).status == "failed"
        """,
    )


def test_the_tree_of_the_protocol_part_aggregates_its_children(seeds):
    seeds.run_pieces(
        seeds.bring("python_api/task_tree_array.py"),
        """
        from aipartnerupflow import TaskExecutor
        done = await TaskExecutor().execute_tasks(tasks)
        assert done["status"] == "completed"
        assert list(done["result"]["results"]) == ["child-1", "child-2"]
        """,
    )
