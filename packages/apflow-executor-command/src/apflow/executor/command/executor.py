"""The executor that runs a program of this machine."""

from __future__ import annotations

import logging
import shlex
import time
from typing import Any, ClassVar

from apflow.core.bounds import MAX_CALL_SECONDS
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.payload.schema import NAMED_ONLY
from apflow.core.settings import read_settings
from apflow.executor.command.errors import CommandFailedError, CommandTimeoutError
from apflow.executor.command.policy import Policy, plan_launch
from apflow.executor.command.process import Process, run_process

logger = logging.getLogger(__name__)

SHOWN_LENGTH = 200

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "command": {
            "description": "The program and its arguments: a list, or a string that is split as in a shell. "
            "No shell is started.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ],
            "examples": ["ls -l", ["wc", "-l", "README.md"]],
        },
        "cwd": {"type": "string", "description": "The folder to run it in.", "examples": ["/srv/data"]},
        "env": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Environment variables, added to a minimal environment.",
            "examples": [{"LANG": "C"}],
        },
        "stdin": {"type": "string", "description": "Text for the standard input.", "examples": ["a line\n"]},
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": 30,
            "description": "Seconds after which it is killed, with all that it started.",
            "examples": [5],
        },
        "shell": {
            "type": "boolean",
            "default": False,
            "description": "Give the text to /bin/sh. Only where APFLOW_COMMAND_SHELL permits that.",
            "examples": [False],
        },
        "check": {
            "type": "boolean",
            "default": True,
            "description": "Fail the task when the exit code is not 0.",
            "examples": [False],
        },
        "max_output_bytes": {
            "type": "integer",
            "minimum": 0,
            "maximum": 4 << 20,
            "default": 1 << 20,
            "description": "How much of each output stream is kept. The rest is read, dropped and marked.",
            "examples": [65536],
        },
    },
    "required": ["command"],
    # Only the task itself may say what is run: no result of another task fills in what it leaves out.
    NAMED_ONLY: True,
    # Notes that hooks leave begin with an underscore; any other unknown name is a slip.
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}


class CommandExecutor(BaseTask):
    """Runs one program, where the settings of this machine allow it."""

    id = "command_executor"
    name = "Command"
    description = "Runs a program that this machine allows and returns its output and exit code."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    _process: Process | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the command.

        Raises:
            CommandRefusedError: the policy forbids it. The policy is read now, not kept from earlier.
            CommandStartError: it cannot be started.
            CommandTimeoutError: it took too long and was killed.
            CommandFailedError: its exit code is not 0, and `check` is on.
        """
        command, timeout = inputs["command"], inputs.get("timeout", 30)
        launch = plan_launch(
            command,
            _policy(),
            is_shell=inputs.get("shell", False),
            cwd=inputs.get("cwd"),
            env=inputs.get("env"),
        )
        process = self._process = Process(inputs.get("max_output_bytes", 1 << 20))
        started = time.monotonic()
        stdin = inputs.get("stdin", "").encode("utf-8", "surrogatepass")
        try:
            ending = await run_process(launch, process, stdin, timeout)
        except TimeoutError as error:
            raise CommandTimeoutError(
                _shown(command), timeout, process.stdout.tail, process.stderr.tail
            ) from error
        if ending.note:
            logger.warning("Task %s: %s", self.task_id, ending.note)  # the command may hold secrets
        if ending.return_code != 0 and inputs.get("check", True):
            raise CommandFailedError(
                _shown(command), ending.return_code, process.stdout.tail, process.stderr.tail, ending.note
            )
        return {
            "command": command,
            "return_code": ending.return_code,
            "stdout": process.stdout.text,
            "stderr": process.stderr.text,
            "success": ending.return_code == 0,
            "duration": round(time.monotonic() - started, 6),
            **({"note": ending.note} if ending.note else {}),
        }

    async def cancel(self) -> dict[str, Any]:
        """Return what the program has said so far. The end of `execute` is what ends the program."""
        if self._process is None:
            return {"status": "cancelled"}
        said = {"stdout": self._process.stdout.text, "stderr": self._process.stderr.text}
        return {"status": "cancelled", "partial_result": said}


def _policy() -> Policy:
    settings = read_settings()
    return Policy(settings.command_allow, settings.command_shell)


def _shown(command: str | list[str]) -> str:
    text = command if isinstance(command, str) else shlex.join(command)
    return f"`{text}`" if len(text) <= SHOWN_LENGTH else f"`{text[:SHOWN_LENGTH]}...`"
