"""The former name serves the objects of apflow, under every documented path."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import aipartnerupflow
import apflow.core
from apflow.core.extensions import hooks
from apflow.core.extensions.tools import tool_register
from apflow.core.manager import StreamingCallbacks
from apflow.storage.sql import TaskModel

# Every path that a document or a program of the former system imports from, and the names that it must have.
PATHS = {
    "aipartnerupflow": """
        __version__ BaseTask ExecutableTask Extension ExtensionCategory ExtensionRegistry StorageExtension
        StreamingCallbacks TaskBuilder TaskCreator TaskExecutor TaskManager TaskPostHook TaskPreHook
        TaskRepository TaskStatus TaskTreeNode Tool add_executor_hook clear_config create_session
        create_storage executor_register get_default_session get_default_storage get_post_hooks
        get_pre_hooks get_registry get_require_existing_tasks get_task_model_class get_task_tree_hooks
        get_use_task_creator hook_register register_extension register_post_hook register_pre_hook
        register_task_tree_hook set_require_existing_tasks set_task_model_class set_use_task_creator
        storage_register task_model_register tool_register
    """,
    "aipartnerupflow.core.types": "TaskTreeNode TaskPreHook TaskPostHook TaskStatus",
    "aipartnerupflow.core.decorators": """
        executor_register register_pre_hook register_post_hook register_task_tree_hook get_task_tree_hooks
        get_task_model_class set_task_model_class task_model_register hook_register storage_register
        tool_register
    """,
    "aipartnerupflow.core.execution": """
        TaskManager TaskCreator TaskExecutor StreamingCallbacks TaskTracker
    """,
    "aipartnerupflow.core.execution.task_executor": "TaskExecutor",
    "aipartnerupflow.core.execution.task_manager": "TaskManager",
    "aipartnerupflow.core.execution.task_creator": "TaskCreator",
    "aipartnerupflow.core.execution.task_tracker": "TaskTracker",
    "aipartnerupflow.core.execution.streaming_callbacks": "StreamingCallbacks",
    "aipartnerupflow.core.interfaces": "ExecutableTask",
    "aipartnerupflow.core.interfaces.executable_task": "ExecutableTask",
    "aipartnerupflow.core.base": "BaseTask",
    "aipartnerupflow.core.base.base_task": "BaseTask",
    "aipartnerupflow.core.storage": """
        create_session get_default_session set_default_session reset_default_session create_pooled_session
        create_storage get_default_storage
    """,
    "aipartnerupflow.core.storage.factory": """
        configure_database is_postgresql_url normalize_postgresql_url create_session create_pooled_session
        get_default_session set_default_session reset_default_session
    """,
    "aipartnerupflow.core.storage.sqlalchemy": "TaskRepository TaskModel",
    "aipartnerupflow.core.storage.sqlalchemy.models": "TaskModel TaskStatus Base TASK_TABLE_NAME",
    "aipartnerupflow.core.storage.sqlalchemy.task_repository": "TaskRepository",
    "aipartnerupflow.core.extensions": """
        get_registry ExtensionRegistry ExtensionCategory Extension executor_register
        get_all_executor_metadata get_executor_metadata validate_task_format register_extension
        StorageBackend HookExtension StorageExtension
    """,
    "aipartnerupflow.core.extensions.base": "Extension",
    "aipartnerupflow.core.extensions.types": "ExtensionCategory TaskPreHook TaskPostHook",
    "aipartnerupflow.core.extensions.storage": "StorageExtension StorageBackend",
    "aipartnerupflow.core.extensions.registry": "ExtensionRegistry get_registry",
    "aipartnerupflow.core.extensions.decorators": "executor_register",
    "aipartnerupflow.core.extensions.protocol": "ExecutorLike ExecutorFactory",
    "aipartnerupflow.core.extensions.hook": "HookExtension",
    "aipartnerupflow.core.extensions.registration": """
        register_extension hook_register storage_register task_model_register
    """,
    "aipartnerupflow.core.extensions.executor_metadata": """
        get_all_executor_metadata get_executor_metadata validate_task_format
    """,
    "aipartnerupflow.core.tools": """
        BaseTool ToolRegistry get_tool_registry register_tool resolve_tool tool_register Tool
    """,
    "aipartnerupflow.core.tools.base": "Tool BaseTool",
    "aipartnerupflow.core.tools.decorators": "tool_register",
    "aipartnerupflow.core.tools.registry": "ToolRegistry get_tool_registry register_tool resolve_tool",
    "aipartnerupflow.core.config": """
        add_executor_hook clear_config get_pre_hooks get_post_hooks get_task_tree_hooks
        get_require_existing_tasks get_use_task_creator set_require_existing_tasks set_use_task_creator
        get_task_model_class set_task_model_class register_pre_hook register_post_hook
        register_task_tree_hook
    """,
    "aipartnerupflow.core.config.registry": """
        add_executor_hook clear_config get_require_existing_tasks get_use_task_creator
        set_require_existing_tasks set_use_task_creator
    """,
    "aipartnerupflow.core.utils": "get_logger tree_node_to_dict",
    "aipartnerupflow.core.utils.logger": "get_logger",
    "aipartnerupflow.core.utils.helpers": "tree_node_to_dict",
    "aipartnerupflow.extensions.core": "AggregateResultsExecutor",
    "aipartnerupflow.extensions.stdio": "CommandExecutor SystemInfoExecutor",
    "aipartnerupflow.extensions.llm_key_config": "LLMKeyConfigManager",
    "aipartnerupflow.api": """
        create_app create_runnable_app create_app_by_protocol setup_app initialize_extensions
    """,
    "aipartnerupflow.api.app": """
        create_app create_runnable_app create_app_by_protocol setup_app initialize_extensions
    """,
    "aipartnerupflow.api.main": "main create_runnable_app create_app",
    "aipartnerupflow.api.a2a": "create_a2a_server generate_token verify_token",
    "aipartnerupflow.api.a2a.server": "create_a2a_server generate_token verify_token",
    "aipartnerupflow.api.protocols": """
        get_supported_protocols get_protocol_from_env check_protocol_dependency
    """,
    "aipartnerupflow.cli": "main",
    "aipartnerupflow.cli.main": "app main",
}
# Path -> the names that a package has, where the extra is installed.
OPTIONAL = {
    "apflow": "ApFlowApiExecutor",
    "crewai": "CrewManager BatchManager CrewaiExecutor",
    "docker": "DockerExecutor",
    "generate": "GenerateExecutor",
    "grpc": "GrpcExecutor",
    "http": "RestExecutor",
    "llm": "LLMExecutor",
    "mcp": "McpExecutor",
    "ssh": "SshExecutor",
    "websocket": "WebSocketExecutor",
}
CORE_ITSELF = [*PATHS["aipartnerupflow"].split()[1:]]
PATHS["aipartnerupflow.core"] = " ".join(CORE_ITSELF)
# Modules that no document names: they only say what a folder is, or hold what others share.
UNDOCUMENTED = {"aipartnerupflow.extensions", "aipartnerupflow.extensions.optional"}


@pytest.mark.parametrize("path", PATHS)
def test_a_documented_path_has_its_names(path: str):
    module = importlib.import_module(path)
    for name in PATHS[path].split():
        found = getattr(module, name)
        assert name in module.__all__
        if hasattr(apflow.core, name):
            assert found is getattr(apflow.core, name)


def test_every_module_is_on_the_list():
    source = Path(aipartnerupflow.__file__).parents[1]
    files = (each.relative_to(source).with_suffix("") for each in source.rglob("*.py"))
    modules = {".".join(each.parts).removesuffix(".__init__") for each in files}
    assert modules == {*PATHS, *UNDOCUMENTED, *(f"aipartnerupflow.extensions.{each}" for each in OPTIONAL)}


def test_names_of_one_thing_are_one_object():
    from aipartnerupflow.core.execution import TaskTracker
    from aipartnerupflow.core.extensions import StorageBackend
    from aipartnerupflow.core.tools import BaseTool

    assert aipartnerupflow.StreamingCallbacks is StreamingCallbacks
    assert aipartnerupflow.get_pre_hooks is hooks.get_pre_hooks
    assert aipartnerupflow.tool_register is tool_register
    assert TaskTracker is apflow.core.TaskExecutor
    assert StorageBackend is apflow.core.StorageExtension
    assert BaseTool is apflow.core.Tool
    assert aipartnerupflow.create_storage is apflow.core.create_session


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert aipartnerupflow.__version__ == version("aipartnerupflow")


def test_the_model_is_the_one_that_sql_stores_map():
    models = importlib.import_module("aipartnerupflow.core.storage.sqlalchemy.models")
    assert models.TaskModel is TaskModel
    assert models.TASK_TABLE_NAME in models.Base.metadata.tables


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


@pytest.mark.parametrize("path", OPTIONAL)
def test_the_former_path_of_an_optional_executor_has_its_names(path: str):
    former = importlib.import_module(f"aipartnerupflow.extensions.{path}")
    for name in OPTIONAL[path].split():
        if path == "crewai" and importlib.util.find_spec("apflow.executor.crewai") is None:
            with pytest.raises(ImportError, match=r"pip install 'aipartnerupflow\[crewai\]'"):
                getattr(former, name)
        else:
            package = importlib.import_module(f"apflow.executor.{path}")
            assert getattr(former, name) is getattr(package, name)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = former.Nothing


def test_a_missing_package_is_an_import_error_with_the_command_that_installs_it():
    from aipartnerupflow.extensions.optional import optional_names

    get = optional_names("former", "apflow.executor.not_there", ["Gone"], extra="some")
    with pytest.raises(ImportError, match=r"apflow-executor-not-there, .*'aipartnerupflow\[some\]'"):
        get("Gone")
