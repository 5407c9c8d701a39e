"""The executor that exchanges messages over a WebSocket."""

from __future__ import annotations

from typing import Any, ClassVar

from apflow.core.bounds import MAX_CALL_SECONDS
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.payload.schema import NAMED_ONLY
from apflow.executor.websocket.address import masked_url
from apflow.executor.websocket.exchange import exchange
from apflow.executor.websocket.replies import MAX_REPLIES, Replies, read_replies
from apflow.executor.websocket.request import read_request, sent_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {
            "type": "string",
            "minLength": 1,
            "description": "The address, ws:// or wss://. Credentials go into `headers`.",
            "examples": ["wss://example.com/live"],
        },
        "message": {
            "description": "What to send: a string unchanged, anything else as JSON. An object with only the "
            "key `base64` is sent as the bytes that it encodes. Without it, or with null, nothing is sent.",
            "examples": ["hello", {"subscribe": "prices"}, {"base64": "AAEC"}],
        },
        "messages": {
            "type": "array",
            "maxItems": MAX_REPLIES,
            "description": "Several messages, each as `message`, sent one after the other.",
            "examples": [["hello", {"subscribe": "prices"}]],
        },
        "wait_response": {
            "type": "boolean",
            "default": True,
            "description": "Wait for replies. Otherwise it is done when the peer has read what was sent, "
            "which a ping shows.",
            "examples": [False],
        },
        "response_count": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_REPLIES,
            "description": "How many replies to wait for, 1 unless said otherwise. With `until`: at most how "
            f"many replies to look at, {MAX_REPLIES} unless said otherwise.",
            "examples": [3],
        },
        "until": {
            "type": "string",
            "minLength": 1,
            "maxLength": 2000,
            "description": "A JMESPath. Replies are received up to the first one that makes it true, which "
            "is everything but false, null and what is empty.",
            "examples": ["status == 'done'"],
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Headers for the handshake.",
            "examples": [{"Authorization": "Bearer 123"}],
        },
        "subprotocols": {
            "type": "array",
            "items": {"type": "string"},
            "uniqueItems": True,
            "description": "Subprotocols, best first. A server that speaks none of them is an error.",
            "examples": [["graphql-transport-ws"]],
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": 30,
            "description": "Seconds for all of it: connecting, sending and receiving.",
            "examples": [5],
        },
        "ping_interval": {
            "type": "number",
            "minimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": 20,
            "description": "Seconds between pings, and for the answer to each: a peer that does not answer "
            "is gone. 0 for no pings.",
            "examples": [5],
        },
        "verify": {
            "description": "The trusted TLS certificates: true for the CAs of this system, a path for those "
            "in a file or directory, false to accept any certificate.",
            "anyOf": [{"type": "boolean"}, {"type": "string", "minLength": 1}],
            "default": True,
            "examples": ["/etc/ssl/my-ca.pem", False],
        },
        "max_output_bytes": {
            "type": "integer",
            "minimum": 1,
            "maximum": 4 << 20,
            "default": 1 << 20,
            "description": "How large all replies together may be. A larger one fails the task.",
            "examples": [65536],
        },
    },
    "required": ["url"],
    # Only the task itself may say who is connected to and what is sent.
    NAMED_ONLY: True,
    # Notes that hooks leave begin with an underscore; any other unknown name is a slip.
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}


class WebSocketExecutor(BaseTask):
    """Sends messages over a WebSocket and returns the replies."""

    id = "websocket_executor"
    name = "WebSocket"
    description = "Sends messages over a WebSocket and returns the replies."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    uses_net_policy = True
    _replies: Replies | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Connect, send, receive and close.

        Raises:
            WebSocketInputError: the inputs cannot be used; nothing was connected to.
            WebSocketTlsError, WebSocketHandshakeError: no connection came about.
            WebSocketClosedError, WebSocketTooLargeError, WebSocketUnmatchedError, WebSocketTimeoutError: it
                ended before everything was said.
            AddressRefusedError, HostNotFoundError, HostUnreachableError: see `apflow.core.net.connect`.
        """
        request = read_request(inputs)
        replies = self._replies = read_replies(request.address.shown, inputs)
        await exchange(request, replies, inputs.get("timeout", 30))
        return {
            "success": True,
            "url": masked_url(inputs["url"]),
            "message_sent": sent_of(inputs),
            "response": replies.received[-1] if replies.received else None,
            "responses": replies.received,
        }

    async def cancel(self) -> dict[str, Any]:
        """Return the replies so far. The end of `execute` is what closes the connection."""
        if self._replies is None:
            return {"status": "cancelled"}
        return {"status": "cancelled", "partial_result": {"responses": list(self._replies.received)}}
