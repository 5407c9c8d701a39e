"""The former name serves the objects of apflow, under every documented path."""

import importlib
import importlib.util
import subprocess
import sys

import pytest

import aipartnerupflow
import apflow.core
from apflow.storage.sql import TaskModel

PATHS = {
    "aipartnerupflow.core.types": ["TaskTreeNode", "TaskPreHook", "TaskPostHook"],
    "aipartnerupflow.core.decorators": ["executor_register", "register_pre_hook", "register_post_hook"],
    "aipartnerupflow.core.execution.task_executor": ["TaskExecutor"],
    "aipartnerupflow.core.execution.task_manager": ["TaskManager"],
    "aipartnerupflow.core.execution.task_creator": ["TaskCreator"],
    "aipartnerupflow.core.interfaces.executable_task": ["ExecutableTask"],
    "aipartnerupflow.core.storage.sqlalchemy.models": ["TaskStatus"],
    "aipartnerupflow.core.storage.sqlalchemy.task_repository": ["TaskRepository"],
    "aipartnerupflow.core.extensions.base": ["Extension"],
    "aipartnerupflow.core.extensions.types": ["ExtensionCategory", "TaskPreHook", "TaskPostHook"],
    "aipartnerupflow.core.extensions.storage": ["StorageExtension"],
    "aipartnerupflow.core.extensions.registry": ["ExtensionRegistry", "get_registry"],
    "aipartnerupflow.core.extensions.decorators": ["executor_register"],
    "aipartnerupflow.core.tools.base": ["Tool"],
}


@pytest.mark.parametrize("name", aipartnerupflow.__all__)
def test_a_name_at_the_top_is_the_object_of_the_core(name: str):
    assert getattr(aipartnerupflow, name) is getattr(apflow.core, name)


@pytest.mark.parametrize("path", PATHS)
def test_a_documented_path_holds_the_objects_of_the_core(path: str):
    module = importlib.import_module(path)
    for name in PATHS[path]:
        assert getattr(module, name) is getattr(apflow.core, name)
        assert name in module.__all__


def test_the_model_is_the_one_that_sql_stores_map():
    models = importlib.import_module("aipartnerupflow.core.storage.sqlalchemy.models")
    assert models.TaskModel is TaskModel


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = aipartnerupflow.Nothing


def test_importing_the_former_name_imports_nothing_heavy():
    heavy = "{'asyncio', 'sqlalchemy', 'pydantic', 'duckdb'}"
    program = f"import sys, aipartnerupflow; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_former_path_of_the_server_is_the_server():
    import apflow.server
    from apflow.server.command import main

    assert importlib.import_module("aipartnerupflow.api").create_app is apflow.server.create_app
    assert importlib.import_module("aipartnerupflow.api.main").main is main


def test_the_former_program_of_the_server_is_the_server():
    program = [sys.executable, "-m", "aipartnerupflow.api.main", "--help"]
    shown = subprocess.run(program, capture_output=True, text=True, check=True)
    assert "Serve the database over HTTP" in shown.stdout


def test_the_former_path_of_crews_says_what_to_install():
    former = importlib.import_module("aipartnerupflow.extensions.crewai")
    if importlib.util.find_spec("apflow.executor.crewai") is None:
        with pytest.raises(ImportError, match=r"pip install aipartnerupflow\[crewai\]"):
            _ = former.CrewManager
    else:
        assert former.CrewManager is importlib.import_module("apflow.executor.crewai").CrewManager
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = former.Nothing
