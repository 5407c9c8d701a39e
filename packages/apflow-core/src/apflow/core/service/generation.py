"""The operation that generates a tree of tasks: a call of `generate_executor`, outside of any tree."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from apflow.core.authoring.root_description import with_description
from apflow.core.errors import ExecutorError, GenerationFailedError
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.registry import get_executor
from apflow.core.model.task import Json
from apflow.core.permissions.origin import Origin, working_for
from apflow.core.service.trees import TreeService

if TYPE_CHECKING:  # see `parameters`
    from pydantic import AliasChoices, Field

    from apflow.core.service.parameters import Owner, Positive, RootLabel, RootTags

EXECUTOR = "generate_executor"


class GenerationService(TreeService):
    """What generates trees, with the keys and the permissions of the caller."""

    async def generate(
        self,
        requirement: Annotated[str, Field(min_length=1, description="What the tree must do, in words.")],
        *,
        provider: Annotated[
            str | None,
            Field(
                validation_alias=AliasChoices("provider", "llm_provider"),
                description="The provider of the model. By default, APFLOW_LLM_PROVIDER of the process that "
                "generates, or openai.",
            ),
        ] = None,
        model: Annotated[
            str | None,
            Field(
                validation_alias=AliasChoices("model", "llm_model"),
                description="The model. By default, APFLOW_LLM_MODEL of the process that generates, or a "
                "model of the provider.",
            ),
        ] = None,
        temperature: Annotated[float, Field(ge=0, le=2, description="The randomness of the answer.")] = 0.7,
        max_tokens: Annotated[
            Positive, Field(description="The maximum number of tokens of the answer.")
        ] = 4000,
        save: Annotated[bool, Field(description="Also create the tasks, without running them.")] = False,
        user_id: Owner = None,
        label: RootLabel = None,
        tags: RootTags = (),
    ) -> dict[str, Json]:
        """Generate a tree of tasks from a requirement, with a language model. It is not run.

        The result has the `tasks`, as `tasks.create` takes them, and `root_task_id` if they were created.

        Raises:
            ExecutorNotFoundError: apflow-executor-generate is not installed.
            GenerationFailedError: the model cannot be called, or did not answer with a valid tree.
            ForbiddenError: the tasks would belong to another user.
        """
        caller = self._owner([user_id])
        entry = await asyncio.to_thread(get_executor, EXECUTOR)  # imports it, which takes long
        executor = entry.make()
        executor.user_id = caller  # whose stored key is used
        given = {"provider": provider, "model": model, "user_id": user_id}
        inputs: dict[str, Json] = {
            "requirement": requirement,
            "temperature": temperature,
            "max_tokens": max_tokens,
            **{name: value for name, value in given.items() if value is not None},
        }
        schema = entry.schema_of(executor)
        if schema is not None:
            schema.validate(inputs)
        result = await self._generated(executor, inputs)
        result["tasks"] = with_description(result["tasks"], label, tags)
        if save:
            node = await self._create(result["tasks"], user_id, "copy", None)
            result["root_task_id"] = node.task.id
        return result

    async def _generated(self, executor: ExecutableTask, inputs: dict[str, Json]) -> dict[str, Any]:
        authors = None if self.author is None else (self.author,)
        try:
            with working_for(Origin(authors, EXECUTOR, can_bind=True)):
                return dict(await executor.execute(inputs))
        except ExecutorError as error:
            raise GenerationFailedError(type(error).__name__, str(error)) from error
