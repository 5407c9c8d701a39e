"""The executors that apflow publishes: what they are called and do, and how to install them.

An executor whose package is not installed cannot describe itself. A test compares the list with the packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from apflow.core import plugins


@dataclass(frozen=True, slots=True)
class FirstPartyExecutor:
    """An executor in a separate distribution of apflow."""

    executor_id: str
    distribution: str
    description: str

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f"pip install {self.distribution}"

    @property
    def is_installed(self) -> bool:
        """Whether an installed distribution offers an executor of its id. Imports nothing."""
        return plugins.is_offered("apflow.executors", self.executor_id)

    def matches(self, words: Iterable[str]) -> bool:
        """Return whether its id, distribution or description contains every word, in any case."""
        text = f"{self.executor_id} {self.distribution} {self.description}".lower()
        return all(word.lower() in text for word in words)


_EXECUTORS: Final = (
    FirstPartyExecutor(
        "system_info_executor",
        "apflow-executor-system-info",
        "Returns processor, memory, disk and network figures of the machine that runs the task.",
    ),
    FirstPartyExecutor(
        "command_executor",
        "apflow-executor-command",
        "Runs a program that this machine allows and returns its output and exit code.",
    ),
    FirstPartyExecutor(
        "aggregate_results_executor",
        "apflow-executor-aggregate",
        "Puts the results of the tasks that it depends on together: collected, merged or joined.",
    ),
    FirstPartyExecutor(
        "rest_executor",
        "apflow-executor-http",
        "Calls a web service by HTTP and returns status, headers and body of the answer.",
    ),
    FirstPartyExecutor(
        "websocket_executor",
        "apflow-executor-websocket",
        "Sends messages over a WebSocket and returns the replies.",
    ),
    FirstPartyExecutor(
        "ssh_executor",
        "apflow-executor-ssh",
        "Runs a command on another machine by SSH and returns its output and exit code.",
    ),
    FirstPartyExecutor(
        "docker_executor",
        "apflow-executor-docker",
        "Runs a command in a container and returns its output and exit code.",
    ),
    FirstPartyExecutor(
        "grpc_executor",
        "apflow-executor-grpc",
        "Calls a method of a gRPC service, described by the server itself or by a .proto file.",
    ),
    FirstPartyExecutor(
        "apflow_api_executor",
        "apflow-executor-apflow",
        "Runs a tree on another apflow server, or calls another of its operations.",
    ),
    FirstPartyExecutor(
        "a2a_executor",
        "apflow-executor-a2a",
        "Sends a message to an agent over the A2A protocol and returns its answer and artifacts.",
    ),
    FirstPartyExecutor(
        "mcp_executor",
        "apflow-executor-mcp",
        "Calls a tool of an MCP server, or lists and reads its tools, resources and prompts.",
    ),
    FirstPartyExecutor(
        "llm_executor",
        "apflow-executor-llm",
        "Calls a language model: chat, tools, JSON answers, streams; any provider that LiteLLM knows.",
    ),
    FirstPartyExecutor(
        "crewai_executor",
        "apflow-executor-crewai",
        "Runs a crew of CrewAI agents; the inputs fill its placeholders.",
    ),
    FirstPartyExecutor(
        "batch_crewai_executor",
        "apflow-executor-crewai",
        "Runs several crews of CrewAI agents as one: if one fails, the batch fails.",
    ),
    FirstPartyExecutor(
        "approval_executor",
        "apflow-executor-approval",
        "Asks people for an approval, and waits for their decision without a place among the calls.",
    ),
    FirstPartyExecutor(
        "generate_executor",
        "apflow-executor-generate",
        "Generates a tree of tasks from a requirement in words, with a language model; runs nothing.",
    ),
)

# By id.
FIRST_PARTY: Final[Mapping[str, FirstPartyExecutor]] = {each.executor_id: each for each in _EXECUTORS}


def search(words: Iterable[str]) -> list[FirstPartyExecutor]:
    """Return the executors that contain every word, by id, whether or not they are installed.

    Args:
        words: each may hold several words; none find every executor.
    """
    wanted = [word for each in words for word in each.split()]
    return sorted((each for each in _EXECUTORS if each.matches(wanted)), key=lambda each: each.executor_id)
