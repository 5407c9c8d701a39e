"""The programs of the extending guide; they are listed in `seeds/list.toml`."""

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("method_1", {"status": "completed", "data": "x"}),
        ("method_2", {"status": "completed", "processed_items": 10, "data": "x"}),
    ],
)
def test_an_executor_of_either_method_runs_under_both_its_ids(seeds, method: str, result: Any):
    seeds.run_pieces(
        "frame.py",
        seeds.bring(f"extending/{method}.py"),
        seeds.bring("extending/registering.py"),
        f"""
        for name in ("my_custom_executor", "custom_id"):
            assert (await run(name, {{"data": "x"}})).result == {result!r}
            assert (await run(name)).result["error_type"] == "ValidationError"
        """,
    )


def test_a_custom_storage_is_registered(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("extending/storage.py"),
        """
        storage = MyCustomStorage()
        get_registry().register(storage)
        assert get_registry().get_by_id("my_custom_storage") is storage
        assert storage in list(get_registry().list_by_category(ExtensionCategory.STORAGE))
        assert await storage.save_task(None) is None
        """,
    )


def test_a_custom_tool_is_registered_and_used(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("extending/tool.py"),
        """
        get_registry().register(MyCustomTool())
        tool = get_registry().get_by_id("my_custom_tool")
        assert await tool.execute({"input": "x"}) == {"result": "tool_output"}
        """,
    )


def test_a_pre_hook_changes_what_the_executor_gets(seeds):
    seeds.run_pieces(
        "frame.py",
        "from datetime import datetime\n",
        seeds.bring("extending/pre_hook.py"),
        """
        async def execute(self, inputs):
            return dict(inputs)
        """,
        "printed.py",
        """
        done = await run("printed", {"url": "example.com"})
        assert done.result["url"] == "https://example.com"
        assert "_processed_at" in done.result
        assert done.inputs == {"url": "example.com"}
        """,
    )


def test_a_post_hook_is_told_of_success_and_of_failure(seeds):
    seeds.run_pieces(
        "frame.py",
        """
        import logging
        logger = logging.getLogger("hook")
        alerts = []
        send_alert = alerts.append

        async def execute(self, inputs):
            return {"status": "failed", "error": "no power"} if inputs else {"status": "completed"}
        """,
        "printed.py",
        seeds.bring("extending/post_hook.py"),
        """
        assert (await run("printed")).status == "completed"
        assert alerts == []
        failed = await run("printed", {"fail": True})
        assert alerts == [f"Task {failed.id} failed: no power"]
        """,
    )


def test_a_custom_task_model_adds_columns(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("extending/custom_task_model.py", replaced={"inputs={...}": 'inputs={"data": 1}'}),
        """
        found = await task_manager.task_repository.get_task_by_id(task.id)
        assert (found.project_id, found.department, found.priority_level) == ("proj-123", "engineering", 1)
        assert found.to_dict()["project_id"] == "proj-123"
        plain = await task_manager.task_repository.create_task(name="plain")
        assert (plain.project_id, plain.priority_level) == (None, 2)
        """,
    )


def test_an_executor_that_asks_the_checker_is_cancelled(seeds):
    seeds.run_pieces(
        "frame.py",
        "cancelled.py",
        seeds.bring("extending/cancellable_executor.py"),
        """
        CancellableExecutor.get_input_schema = lambda self: {"type": "object"}
        executor_register(CancellableExecutor())
        assert (await cancelled("cancellable_executor")).status == "cancelled"
        """,
    )


@pytest.mark.parametrize("seeds", [("aipartnerupflow", "duckdb")], indirect=True, ids="-".join)
def test_a_streaming_executor_is_heard(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("extending/streaming_executor.py"),
        """
        executor_register(StreamingExecutor())
        task = await task_manager.task_repository.create_task(name="streaming_executor")
        heard = []

        async def listen():
            async for event in task_manager.subscribe(task.id, after=0):
                heard.append(event)

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            await task_manager.distribute_task_tree_with_streaming(TaskTreeNode(task))
        steps = [event.data["step"] for event in heard if event.type == "progress"]
        assert steps == sorted(steps) and steps[-1] == 10
        assert heard[-1].type == "tree_completed"
        """,
    )


def test_an_executor_cleans_up_what_it_acquired(seeds):
    seeds.run_pieces(
        "frame.py",
        """
        cleaned = []
        class Resource:
            def cleanup(self):
                cleaned.append(self)
        acquire_resource = Resource
        """,
        seeds.bring("extending/resource_cleanup.py"),
        "printed.py",
        """
        assert (await run("printed")).status == "completed"
        assert len(cleaned) == 1
        """,
    )


def test_the_test_of_the_extending_guide_passes(seeds):
    seeds.bring("extending/method_2.py", "my_executor.py")
    printed = (seeds.folder / seeds.bring("extending/testing.py")).read_text()
    seeds.write("testing.py", f"from my_executor import MyCustomExecutor\n{printed}")
    assert "1 passed" in seeds.run_tests("testing.py")
