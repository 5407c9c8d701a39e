"""The programs of the older guide and of the README; they are listed in `seeds/list.toml`."""


def test_an_executor_with_properties_runs(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks_older/my_custom_task.py"),
        "get_registry().register(MyCustomTask())\n\n",
        seeds.bring("custom_tasks_older/using_registered_tasks.py"),
        """
        tree = await task_manager.distribute_task_tree(TaskTreeNode(task))
        assert tree["result"] == {"status": "completed", "result": "..."}
        """,
    )


def test_the_older_http_task_calls_an_api(seeds, server):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks_older/api_call_task.py"),
        f"""
        executor_register(APICallTask())
        done = await run("api_call_task", {{"url": "{server}/x", "method": "POST", "data": {{"n": 1}}}})
        assert done.result["data"] == {{"path": "/x", "asked": {{"n": 1}}}}
        refused = await run("api_call_task", {{"url": "http://127.0.0.1:9/"}})
        assert refused.status == "failed"
        """,
    )


def test_the_older_patterns_run(seeds):
    seeds.write("read_me.txt", "words")
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks_older/data_processing.py"),
        seeds.bring("custom_tasks_older/file_read.py"),
        seeds.bring("custom_tasks_older/database_query.py"),
        """
        class Connection:
            async def fetch(self, query, params):
                return [[query, params]]

        executor_register(DataProcessingTask(), executor_id="data_processing")
        executor_register(FileReadTask(), executor_id="file_read")
        get_registry().register(DatabaseQueryTask(Connection()), executor_id="database_query")
        averaged = await run("data_processing", {"data": [1, 3], "operation": "average"})
        assert averaged.result["result"] == 2.0
        unknown = await run("data_processing", {"operation": "median"})
        assert unknown.error.endswith("Unknown operation: median")
        assert (await run("file_read", {"file_path": "read_me.txt"})).result["content"] == "words"
        assert (await run("database_query", {"query": "SELECT 1"})).result["rows"] == [["SELECT 1", {}]]
        """,
    )


def test_a_cancelled_task_keeps_its_partial_result(seeds):
    seeds.run_pieces(
        "frame.py",
        "cancelled.py",
        seeds.bring("custom_tasks_older/cancel.py"),
        """
        @executor_register()
        class Partial(BaseTask):
            id = "partial"
            cancel = cancel
            async def execute(self, inputs):
                self._partial_result = {"rows": 3}
                await asyncio.Event().wait()

        task = await cancelled("partial")
        assert task.status == "cancelled"
        assert task.result["partial_result"] == {"rows": 3}
        """,
    )


def test_the_tests_of_the_older_guide_pass(seeds):
    seeds.bring("custom_tasks_older/my_custom_task.py", "my_tasks.py")
    seeds.write(
        "my_module.py",
        "from aipartnerupflow import get_registry\n"
        "from my_tasks import MyCustomTask\n"
        "get_registry().register(MyCustomTask())\n",
    )
    for printed in ("unit_testing", "integration_testing"):
        assert "1 passed" in seeds.run_tests(seeds.bring(f"custom_tasks_older/{printed}.py"))


def test_the_library_example_runs_a_child_of_a_group(seeds):
    seeds.run_pieces(
        """
        from aipartnerupflow import BaseTask, executor_register
        @executor_register()
        class Custom(BaseTask):
            id = "custom_task"
            async def execute(self, inputs):
                return {"seen": inputs["url"]}
        """,
        seeds.bring("readme/as_a_library.py"),
        """
        assert result["status"] == "completed"
        done = await task_manager.task_repository.get_task_by_id(child_task.id)
        assert done.result == {"seen": "https://example.com"}
        """,
    )


def test_the_custom_task_of_the_readme_posts(seeds, server):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("readme/api_call_task.py"),
        f"""
        executor_register(APICallTask())
        done = await run("api_call_task", {{"url": "{server}/x", "data": {{"n": 1}}}})
        assert done.result["result"] == {{"path": "/x", "asked": {{"n": 1}}}}
        """,
    )
