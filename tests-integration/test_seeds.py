"""The programs of the seed documents run as printed, on DuckDB, and give what they promise.

Each runs twice: under the former name, and with only the package's name changed to `apflow.core`. What a
piece takes for granted (a task manager, an executor to call, an answer of the network) is prepended.
`seeds/list.toml` lists all of them; pieces that cannot run alone are in `test_seeds_fragments.py`.
"""


def test_the_quick_start_of_the_guide_creates_a_task_that_runs(seeds):
    seeds.bring("custom_tasks/my_module.py")
    shown = seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/use_it.py"),
        """
        await task_manager.distribute_task_tree(TaskTreeNode(task))
        done = await task_manager.task_repository.get_task_by_id(task.id)
        print(done.status, done.result["result"])
        """,
    )
    assert shown == "completed Processed: Hello!\n"


def test_the_greeting_executor_greets(seeds):
    seeds.bring("custom_tasks/greeting_executor.py")
    assert seeds.run(seeds.bring("custom_tasks/use_greeting.py")) == "Greeting: Hello, Alice!\n"


def test_a_returned_error_fails_the_task_with_its_type(seeds):
    seeds.run_pieces(
        "frame.py",
        """
        def perform_operation(inputs):
            return {"value": [1, 2][inputs["n"]]} if inputs["n"] >= 0 else int("no number")
        """,
        seeds.bring("custom_tasks/returning_errors.py"),
        "printed.py",
        """
        assert (await run("printed", {"n": 1})).result == {"status": "completed", "result": {"value": 2}}
        for n, kind in ((-1, "validation_error"), (5, "execution_error")):
            failed = await run("printed", {"n": n})
            assert (failed.status, failed.result["error_type"]) == ("failed", kind)
            assert failed.error == failed.result["error"]
        """,
    )


def test_a_raised_exception_fails_the_task(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/raising_exceptions.py"),
        "printed.py",
        """
        assert (await run("printed", {"required_param": 1})).status == "completed"
        failed = await run("printed")
        assert failed.status == "failed"
        assert "required_param is required" in failed.error
        assert failed.result["error_type"] == "ValueError"
        """,
    )


def test_a_meaningful_error_keeps_its_context(seeds):
    seeds.run_pieces(
        "frame.py",
        """
        async def fetch_url(url):
            if "slow" in url:
                raise TimeoutError
            return url.upper()
        """,
        seeds.bring("custom_tasks/meaningful_errors.py"),
        "printed.py",
        """
        assert (await run("printed", {"url": "a"})).result["result"] == "A"
        assert (await run("printed")).result["field"] == "url"
        assert (await run("printed", {"url": 3})).result["received_type"] == "int"
        assert (await run("printed", {"url": "slow"})).error == "Request to slow timed out"
        """,
    )


def test_pattern_1_of_the_guide_calls_an_http_api(seeds, server):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/pattern_1_http.py"),
        f"""
        done = await run("api_call_executor", {{"url": "{server}/users"}})
        assert done.result["status_code"] == 200
        assert done.result["data"] == {{"path": "/users", "asked": None}}
        refused = await run("api_call_executor", {{"url": "http://127.0.0.1:9/"}})
        assert (refused.status, refused.result["error_type"]) == ("failed", "ClientConnectorError")
        unknown = await run("api_call_executor", {{"url": "{server}", "method": "DELETE"}})
        assert (unknown.status, unknown.result["error_type"]) == ("failed", "ValidationError")
        """,
    )


def test_pattern_2_of_the_guide_processes_data(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/pattern_2_data.py"),
        """
        assert (await run("data_processor", {"data": [1, 2, 3]})).result["result"] == 6
        averaged = await run("data_processor", {"data": [1, 2, 3], "operation": "average"})
        assert (averaged.result["result"], averaged.result["input_count"]) == (2.0, 3)
        assert (await run("data_processor", {"data": "no list"})).status == "failed"
        """,
    )


def test_pattern_3_of_the_guide_reads_files(seeds):
    seeds.write("read_me.txt", "three words here\n")
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/pattern_3_files.py"),
        """
        done = await run("file_reader", {"file_path": "read_me.txt"})
        assert (done.result["content"], done.result["size"]) == ("three words here\\n", 17)
        missing = await run("file_reader", {"file_path": "missing.txt"})
        assert (missing.status, missing.result["error_type"]) == ("failed", "file_not_found")
        """,
    )


def test_pattern_4_of_the_guide_queries_a_database(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/pattern_4_database.py"),
        """
        done = await run("db_query", {"query": "SELECT 1", "params": {}})
        assert done.result == {"status": "completed", "rows": [], "count": 0}
        """,
    )


def test_a_cancellable_task_ends_when_it_is_told_to(seeds):
    seeds.run_pieces(
        "frame.py",
        "cancelled.py",
        seeds.bring("custom_tasks/cancellable_task.py"),
        """
        executor_register(CancellableTask(), executor_id="cancellable_task")
        task = await cancelled("cancellable_task")
        assert task.status == "cancelled"
        """,
    )


def test_a_task_that_does_not_use_its_context_runs(seeds):
    seeds.run_pieces(
        "frame.py",
        seeds.bring("custom_tasks/context_aware_task.py"),
        """
        executor_register(ContextAwareTask(), executor_id="context_aware_task")
        assert (await run("context_aware_task")).result == {"status": "completed"}
        """,
    )


def test_the_integration_test_of_the_guide_passes(seeds):
    seeds.bring("custom_tasks/greeting_executor.py", "my_executors.py")
    assert "1 passed" in seeds.run_tests(seeds.bring("custom_tasks/integration_testing.py"))
