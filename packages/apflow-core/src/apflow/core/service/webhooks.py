"""Operations on webhooks: register them with a run, and return their state."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from apflow.core.errors import ForbiddenError, InvalidInputError, NotFoundError
from apflow.core.model.task import Json, utc_now
from apflow.core.service.access import Access
from apflow.core.webhooks.delivery import check_available
from apflow.core.webhooks.registration import check_config

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field

    from apflow.core.service.parameters import Positive, TaskId
    from apflow.core.webhooks.webhook import Webhook, WebhookConfig


class WebhookService(Access):
    """What one caller may do with webhooks."""

    async def webhooks(self, task_id: TaskId) -> list[dict[str, Json]]:
        """Return the webhooks of a task's tree, each with its progress and its last error.

        Only an admin sees those that the settings of the server name.
        """
        task = await self._task(task_id, with_tree=True)
        found = await self._webhooks_of(task.root_id)
        return [each.shown() for each in found if each.setting is None or self.is_admin]

    async def unfinished_webhooks(
        self,
        *,
        limit: Annotated[Positive, Field(description="The maximum number of webhooks to return.")] = 100,
    ) -> list[dict[str, Json]]:
        """Return the webhooks of all trees that are not done: first those that were given up.

        Those that still send follow: first those whose deliveries have failed most often. Only an admin may.

        Raises:
            ForbiddenError: the caller is not an admin.
        """
        if not self.is_admin:
            raise ForbiddenError("Only an admin may list the webhooks of all trees.")
        from apflow.core.webhooks.kinds import ENDED_KIND, KIND
        from apflow.core.webhooks.webhook import Webhook

        found = {
            record.key: Webhook.of(record)
            for kind in (KIND, ENDED_KIND)
            for record in await self.db.records(kind)
        }
        open_ones = [each for each in found.values() if each.status != "done"]
        open_ones.sort(key=lambda each: (each.status != "dead", -each.failures, each.created_at))
        return [each.shown() | {"root_task_id": each.root_id} for each in open_ones[:limit]]

    async def _register_webhook(self, root_id: str, config: Mapping[str, Json]) -> dict[str, Json]:
        """Store a webhook for the next run of a tree, and return its `webhook_id` and generated secret.

        Raises:
            InvalidInputError: the configuration is invalid, or no distribution here delivers webhooks.
        """
        read = await self._read_webhook(config)
        known = await self._webhooks_of(root_id)
        webhook, _ = await self._store_webhook(read, root_id, secrets.token_hex(16), known)
        return _webhook_fields(webhook, read)

    async def _withdraw_webhook(self, root_id: str, webhook_id: str | None) -> None:
        """Remove a webhook whose run did not start."""
        from apflow.core.store.tree_records import keys_of
        from apflow.core.webhooks.kinds import KIND

        if webhook_id is not None:
            await self.db.remove_record(KIND, f"{keys_of(root_id)}{webhook_id}")

    async def _read_webhook(self, config: Mapping[str, Json]) -> WebhookConfig:
        """Validate the configuration of a webhook, including its address.

        Raises:
            InvalidInputError: the configuration is invalid.
        """
        if not self.is_served:
            check_available()
        return await check_config(config, self.author)

    @asynccontextmanager
    async def _webhook(
        self, config: WebhookConfig | None, root_id: str, idempotency_key: str | None, *, is_new: bool
    ) -> AsyncGenerator[dict[str, Json]]:
        """Store a webhook for the run that is requested in this context, and remove it if that fails.

        The same idempotency key stores one webhook only. Yields the fields of the result that describe it.
        """
        if config is None:
            yield {}
            return
        from apflow.core.webhooks.kinds import KIND

        made = secrets.token_hex(16)
        if idempotency_key is not None:
            made = hashlib.sha256(f"{root_id}\n{idempotency_key}".encode()).hexdigest()[:32]
        known = await self._webhooks_of(root_id)
        webhook = next((each for each in known if each.id == made), None)
        is_stored = False
        if webhook is None and is_new:
            webhook, is_stored = await self._store_webhook(config, root_id, made, known)
        try:
            yield {} if webhook is None else _webhook_fields(webhook, config)
        except BaseException:
            if webhook is not None and is_stored:
                await self.db.remove_record(KIND, webhook.key)
            raise

    async def _store_webhook(
        self, config: WebhookConfig, root_id: str, webhook_id: str, known: Sequence[Webhook]
    ) -> tuple[Webhook, bool]:
        """Return a webhook, and whether this call stored it: a concurrent call with the same key may have."""
        from apflow.core.webhooks.kinds import KIND
        from apflow.core.webhooks.webhook import MAX_PER_TREE, new_webhook

        if len([each for each in known if each.status == "active" and each.setting is None]) >= MAX_PER_TREE:
            raise InvalidInputError(f"The tree already has the maximum of {MAX_PER_TREE} active webhooks.")
        root = (await self.db.get([root_id])).get(root_id)
        if root is None:
            raise NotFoundError(root_id)
        webhook = new_webhook(
            config,
            webhook_id,
            root_id=root_id,
            user_id=root.user_id,
            author=self.author,
            sent=root.last_event,
            now=utc_now(),
        )
        if await self.db.put_record(KIND, webhook.key, webhook.to_json(), version=0) is not None:
            return webhook, True
        first = await self._webhooks_of(root_id)
        return next((each for each in first if each.id == webhook_id), webhook), False

    async def _webhooks_of(self, root_id: str) -> list[Webhook]:
        from apflow.core.store.tree_records import keys_of
        from apflow.core.webhooks.kinds import ENDED_KIND, KIND
        from apflow.core.webhooks.webhook import Webhook

        found = {
            record.key: Webhook.of(record)
            for kind in (KIND, ENDED_KIND)
            for record in await self.db.records(kind, prefix=keys_of(root_id))
        }
        return [each for each in found.values() if each.root_id == root_id]


def _webhook_fields(webhook: Webhook, config: WebhookConfig) -> dict[str, Json]:
    shown: dict[str, Json] = {"webhook_id": webhook.id}
    return shown if config.secret is not None else shown | {"webhook_secret": webhook.secret}
