"""What a call of a language model is, and the account that the engine keeps of the calls of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from apflow.core.model.task import Json, Task
from apflow.core.model.usage import ModelUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A call of a model, as far as it is known before it is made.

    Attributes:
        model: the model as the task names it.
        provider: the provider, such as "openai".
        operation: what the model does: "chat", "embeddings", "text_completion" or another name.
        input_tokens: tokens of the prompt, or a function that counts them. The function is called in a
            thread, and only if a budget limits tokens or money.
        max_output_tokens: the limit for the tokens of the answer that the task asks for; None: no limit. With
            a budget of tokens or money, a call without a limit gets one: see `ModelCall.max_output_tokens`.
        usual_output_tokens: the limit that such a call gets, if the budget has that much left; None: the
            setting `budget_output_tokens`.
        cost: returns US dollars for tokens of a prompt and tokens of an answer, or None if the price is not
            known. A budget of money refuses a call without a known price.
        parameters: of the request, such as `temperature`, for traces.
        messages: the prompt, for traces.
        address: the URL that the call goes to, for traces.
    """

    model: str
    provider: str | None = None
    operation: str = "chat"
    input_tokens: int | Callable[[], int] = 0
    max_output_tokens: int | None = None
    usual_output_tokens: int | None = None
    cost: Callable[[int, int], float | None] | None = None
    parameters: Mapping[str, Json] = field(default_factory=dict[str, Json])
    messages: Json = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What is known of an answer, for traces."""

    model: str | None = None  # as the provider names it
    id: str | None = None
    finish_reasons: Sequence[str] = ()
    messages: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedModelCall:
    """A call that has ended, as observers see it.

    It has messages only if the setting `trace_model_content` is on; secrets of the task are masked in them.
    """

    request: ModelRequest
    answer: ModelAnswer
    usage: ModelUsage
    began_at: datetime
    seconds: float
    error_type: str | None  # the class of the exception that ended the call
    task: Task | None  # None: the call was made outside of a task
    root: Task | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the budgets of a task grant for a call."""

    id: str
    account_ids: tuple[str, ...] = ()  # ids of the tasks whose budgets it is reserved from
    max_output_tokens: int | None = None


class ModelCalls(Protocol):
    """The account of one attempt of a task; the engine has it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the run. The coroutines below run in it."""
        ...

    @property
    def task(self) -> Task:
        """The task."""
        ...

    @property
    def root(self) -> Task | None:
        """The root of the tree of the task."""
        ...

    async def reserve(self, request: ModelRequest) -> Reservation:
        """Reserve what a call may use, from every budget that applies; wait if a budget says so.

        Raises:
            BudgetExceededError: a budget has not enough left.
            ModelPriceUnknownError: a budget limits money, and the price of the model is not known.
        """
        ...

    async def settle(
        self, reservation: Reservation, request: ModelRequest, usage: ModelUsage, seconds: float
    ) -> None:
        """Charge what a call used, and add it to the usage of the task."""
        ...

    def masked(self, value: Json) -> Json:
        """Return a value with the secrets of the task masked."""
        ...
