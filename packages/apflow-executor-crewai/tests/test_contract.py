from typing import Any

import pytest

from apflow.executor.crewai import BatchManager, CrewManager
from apflow.testing.executor import ExecutorContract
from apflow.testing.modelserver import ModelServer, Reply

WORK: dict[str, Any] = {
    "agents": [{"role": "Analyst", "goal": "Analyze"}],
    "tasks": [{"description": "Analyze {topic}"}],
}


class OfCrews(ExecutorContract):
    start_within = 2.0

    @pytest.fixture(autouse=True)
    def at(self, server: ModelServer, llm: dict[str, Any]) -> None:
        self.server, self.llm = server, llm

    def good_inputs(self) -> dict[str, Any]:
        return {"topic": "sales"}

    def slow_inputs(self) -> dict[str, Any]:
        self.server.script.append(Reply(hang_after=1))
        return self.good_inputs()

    def check_stopped(self) -> None:
        self.server.until(lambda: self.server.answering == 0)


class TestCrewManager(OfCrews):
    def make_executor(self) -> CrewManager:
        return CrewManager(**WORK, llm=self.llm)

    def check_result(self, result: Any) -> None:
        assert result["result"] == "Hello from the model."


class TestBatchManager(OfCrews):
    def make_executor(self) -> BatchManager:
        return BatchManager(works={"one": WORK, "two": WORK}, llm=self.llm)

    def check_result(self, result: Any) -> None:
        assert result["result"] == {"one": "Hello from the model.", "two": "Hello from the model."}
