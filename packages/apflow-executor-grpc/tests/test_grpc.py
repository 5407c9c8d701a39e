import copy
from typing import Any

import pytest
from peers.grpcserver import Peer, pool

from apflow.executor.grpc import (
    GrpcCallError,
    GrpcExecutor,
    GrpcInputError,
    GrpcOutputError,
    GrpcRequestError,
    GrpcTimeoutError,
)


async def run(inputs: dict[str, Any]) -> dict[str, Any]:
    return await GrpcExecutor().execute(inputs)


async def test_one_message_is_answered_by_one(peer: Peer):
    assert await run(peer.inputs("Greet", {"name": "you"})) == {
        "success": True,
        "response": {"text": "Hello you"},
        "metadata": {"x-first": "1", "x-data-bin": "AP8=", "x-last": ["a", "b"]},
        "code": "OK",
        "service": "demo.Demo",
        "method": "Greet",
    }


async def test_one_message_is_answered_by_a_stream(peer: Peer):
    result = await run(peer.inputs("Count", {"number": "3"}))
    assert result["responses"] == [{"number": "0"}, {"number": "1"}, {"number": "2"}]
    assert "response" not in result
    assert (await run(peer.inputs("Count", {})))["responses"] == []


async def test_a_stream_is_answered_by_one_message(peer: Peer):
    numbers = [{"number": "20"}, {"number": 22}]
    assert (await run(peer.inputs("Sum", numbers)))["response"] == {"number": "42"}
    assert (await run(peer.inputs("Sum", numbers[0])))["response"] == {"number": "20"}
    assert (await run(peer.inputs("Sum", [])))["response"] == {"number": "0"}


async def test_a_stream_is_answered_by_a_stream(peer: Peer):
    names = [{"name": str(number)} for number in range(500)]
    result = await run(peer.inputs("Chat", names))
    assert result["responses"] == [{"text": f"Hello {number}"} for number in range(500)]


async def test_a_server_that_ends_a_stream_early_has_the_last_word(peer: Peer):
    numbers = [{"number": number} for number in range(1, 200)]
    for _ in range(20):
        with pytest.raises(GrpcCallError, match="PERMISSION_DENIED: no"):
            await run(peer.inputs("Refuse", numbers))
        assert (await run(peer.inputs("First", numbers)))["responses"] == [{"number": "1"}]


EVERYTHING = {
    "small_number": -1,
    "large_number": "-9223372036854775808",
    "larger_number": "18446744073709551615",
    "fraction": "Infinity",
    "is_true": True,
    "text": "é漢🦆\n",
    "data": "AP8=",
    "colour": "GREEN",
    "items": [{"name": "a", "count": "9007199254740993", "colour": "RED"}],
    "by_name": {"k": {"name": "b", "count": "0", "colour": "COLOUR_UNSPECIFIED"}},
    "by_number": {"-5": "five"},
    "item": {"name": "c", "count": "1", "colour": "RED"},
    "moment": "2026-01-31T12:00:00.500Z",
    "span": "-1.500s",
    "free": {"a": [1.5, None, {"b": True}]},
    "any": {"@type": "type.googleapis.com/demo.Name", "name": "inside"},
    "maybe": "0",
    "mask": "smallNumber,item.name",
    "list": ["x", 2.0],
    "value": "v",
}


async def test_every_kind_of_field_survives_the_way_there_and_back(peer: Peer):
    assert {*EVERYTHING, "word", "inner"} == set(
        pool().FindMessageTypeByName("demo.Everything").fields_by_name
    )
    response = (await run(peer.inputs("Echo", EVERYTHING | {"inner": EVERYTHING})))["response"]
    assert response.pop("inner") == EVERYTHING
    assert response == EVERYTHING


async def test_fields_are_also_known_by_their_names_in_json_and_enums_by_number(peer: Peer):
    response = (await run(peer.inputs("Echo", {"smallNumber": 3, "colour": 2})))["response"]
    assert (response["small_number"], response["colour"]) == (3, "GREEN")


async def test_zeros_and_empty_lists_are_there_so_that_others_can_refer_to_them(peer: Peer):
    response = (await run(peer.inputs("Echo", {})))["response"]
    assert (response["small_number"], response["items"], response["text"]) == (0, [], "")
    assert "item" not in response
    assert "moment" not in response


@pytest.mark.parametrize(
    ("method", "request_", "response"),
    [
        ("Upper", "abc", "ABC"),
        ("Any", {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"}, None),
        ("Any", {}, None),
    ],
)
async def test_messages_whose_json_is_no_object_of_fields(
    peer: Peer, method: str, request_: Any, response: Any
):
    assert (await run(peer.inputs(method, request_)))["response"] == (response or request_)


async def test_what_an_any_holds_is_asked_for_though_nothing_imports_it(peer: Peer):
    note = {"@type": "type.googleapis.com/demo.note.Note", "text": "hello"}
    assert (await run(peer.inputs("Any", note)))["response"] == note
    nested = {"any": note, "inner": {"any": note}}
    assert (await run(peer.inputs("Echo", nested)))["response"]["inner"]["any"] == note


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"nope": 1}, "request.nope"),
        ({"small_number": 2**31}, "request.small_number"),
        ({"small_number": "hunter2"}, "request.small_number"),
        ({"larger_number": -1}, "request.larger_number"),
        ({"is_true": "yes"}, "request.is_true"),
        ({"text": 5}, "request.text"),
        ({"data": "hunter2!"}, "request.data"),
        ({"items": [{}, {"name": 5}]}, "request.items[1].name"),
        ({"items": {}}, "request.items"),
        ({"by_name": {"a": {}, "b": {"count": "hunter2"}}}, "request.by_name['b'].count"),
        ({"by_name": []}, "request.by_name"),
        ({"by_number": {"hunter2": "x"}}, "request.by_number['hunter2']"),
        ({"colour": "BLUE"}, "request.colour"),
        ({"moment": "hunter2"}, "request.moment"),
        ({"span": "1 hour"}, "request.span"),
        ({"free": "hunter2"}, "request.free"),
        ({"maybe": "hunter2"}, "request.maybe"),
        ({"inner": {"inner": {"fraction": "hunter2"}}}, "request.inner.inner.fraction"),
        ({"inner": "hunter2"}, "request.inner"),
        ({"any": {"@type": "demo/demo.Name", "name": 5}}, "request.any.name"),
        ({"any": {"@type": "demo/no.Such"}}, "request.any"),
        ({"any": {"text": "hunter2"}}, "request.any"),
        ({"word": "a", "item": {}}, "request"),
        ("hunter2", "request"),
        ([{}], "request"),
        (None, "request"),
    ],
)
async def test_a_request_that_does_not_fit_is_not_sent_and_its_place_is_named(
    peer: Peer, request_: Any, path: str
):
    before = copy.deepcopy(request_)
    with pytest.raises(GrpcRequestError) as caught:
        await run(peer.inputs("Echo", request_))
    assert caught.value.path == path
    assert request_ == before
    assert "hunter2" not in str(caught.value).replace(path, "")
    assert not peer.calls["Echo"]


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"fraction": 2**53 + 1}, "request.fraction"),
        ({"inner": {"fraction": -(2**53) - 1}}, "request.inner.fraction"),
        ({"free": {"a": [1, {"b": 2**64 - 1}]}}, "request.free.a[1].b"),
        ({"list": [0, 2**53 + 1]}, "request.list[1]"),
        ({"value": 2**53 + 1}, "request.value"),
        ({"any": {"@type": "x/google.protobuf.DoubleValue", "value": 2**53 + 1}}, "request.any"),
        ({"any": {"@type": "x/google.protobuf.FloatValue", "value": 2**24 + 1}}, "request.any"),
    ],
)
async def test_an_integer_that_a_float_does_not_hold_is_not_sent(peer: Peer, request_: Any, path: str):
    with pytest.raises(GrpcRequestError, match="does not hold exactly") as caught:
        await run(peer.inputs("Echo", request_))
    assert caught.value.path == path


async def test_integers_are_sent_and_received_exactly(peer: Peer):
    sent = {
        "large_number": -(2**63),
        "larger_number": 2**64 - 1,
        "fraction": 2**53,
        "free": {"a": [-(2**53)]},
        "maybe": 2**63 - 1,
    }
    received = (await run(peer.inputs("Echo", sent)))["response"]
    assert received["large_number"] == str(-(2**63))
    assert received["larger_number"] == str(2**64 - 1)
    assert (received["fraction"], received["free"]) == (2**53, {"a": [-(2**53)]})
    assert received["maybe"] == str(2**63 - 1)


async def test_the_place_in_a_stream_is_named(peer: Peer):
    with pytest.raises(GrpcRequestError, match=r"^request\[1\]\.number: "):
        await run(peer.inputs("Sum", [{"number": 1}, {"number": "x"}]))
    assert not peer.calls["Sum"]


async def test_metadata_is_sent_in_lower_case_and_bytes_as_bytes(peer: Peer):
    await run(peer.inputs("Metadata", {}, metadata={"X-Tag": ["a", "b"], "x-raw-bin": "AP8", "x-empty": ""}))
    (seen,) = peer.metadata
    assert [pair for pair in seen if pair[0].startswith("x-")] == [
        ("x-tag", "a"),
        ("x-tag", "b"),
        ("x-raw-bin", b"\0\xff"),
        ("x-empty", ""),
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        {"grpc-timeout": "hunter2"},
        {"Content-Type": "hunter2"},
        {":path": "hunter2"},
        {"a b": "hunter2"},
        {"": "hunter2"},
        {"x": "hunter2\r\ny: z"},
        {"x": "hunter2é"},
        {"x": " hunter2"},
        {"x-bin": "hunter2!"},
        {"x": ["a", "hunter2\0"]},
    ],
)
async def test_metadata_that_cannot_be_sent_is_refused_and_not_told(peer: Peer, metadata: dict[str, Any]):
    with pytest.raises(GrpcInputError) as caught:
        await run(peer.inputs("Metadata", {}, metadata=metadata))
    assert "hunter2" not in str(caught.value)
    assert not peer.calls


async def test_another_status_than_ok_fails_with_its_rich_details(peer: Peer):
    failure = {"code": 6, "message": "no room", "rich": True, "unknown": True}
    with pytest.raises(
        GrpcCallError, match=r"demo\.Demo/Fail at .* failed with ALREADY_EXISTS: no room"
    ) as caught:
        await run(peer.inputs("Fail", failure))
    error = caught.value
    assert (error.code, error.message) == ("ALREADY_EXISTS", "no room")
    assert error.details == [
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "field_violations": [{"field": "name", "description": "taken"}],
        },
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "NAME_TAKEN",
            "domain": "demo",
            "metadata": {"limit": "3"},
        },
        {"@type": "type.googleapis.com/no.Such", "value": "CAE="},
    ]
    assert "NAME_TAKEN" in str(error)


@pytest.mark.parametrize("code", range(1, 17))
async def test_every_code_is_told_by_name(peer: Peer, code: int):
    with pytest.raises(GrpcCallError) as caught:
        await run(peer.inputs("Fail", {"code": code, "message": "reason"}))
    assert caught.value.code in str(caught.value)
    assert isinstance(caught.value, GrpcTimeoutError) == (caught.value.code == "DEADLINE_EXCEEDED")


async def test_a_stream_that_fails_after_some_responses_fails(peer: Peer):
    executor = GrpcExecutor()
    with pytest.raises(GrpcCallError, match="FAILED_PRECONDITION: later"):
        await executor.execute(peer.inputs("FailLater", {"code": 9, "message": "later"}))
    partial = (await executor.cancel())["partial_result"]
    assert partial == {"responses": [{"number": "0"}, {"number": "1"}, {"number": "2"}]}


async def test_a_stream_over_the_limit_is_ended_and_marked(peer: Peer):
    result = await run(peer.inputs("Endless", {"bytes": 600}, max_output_bytes=2000))
    assert len(result["responses"]) == 2
    assert (result["truncated"], result["code"]) == (True, "CANCELLED")
    await peer.until_active("Endless", 0)


async def test_a_stream_is_ended_after_as_many_responses_as_are_wanted(peer: Peer):
    result = await run(peer.inputs("Endless", {"bytes": 1}, max_responses=3))
    assert result["responses"] == [{"data": "AA=="}] * 3
    assert result["truncated"]
    await peer.until_active("Endless", 0)
    health = peer.inputs("Watch", {}, service="grpc.health.v1.Health", max_responses=1)
    assert (await run(health))["responses"] == [{"status": "SERVING"}]


@pytest.mark.parametrize("size", [2_000, 5_000_000])
async def test_a_single_response_over_the_limit_fails(peer: Peer, size: int):
    with pytest.raises(GrpcOutputError, match="max_output_bytes"):
        await run(peer.inputs("Large", {"bytes": size}, max_output_bytes=2_000))


async def test_a_large_response_is_read_where_it_is_permitted(peer: Peer):
    result = await run(peer.inputs("Large", {"bytes": 6_000_000}, max_output_bytes=8 << 20))
    assert len(result["response"]["data"]) == 8_000_000


async def test_the_health_service_is_called_like_any_other(peer: Peer):
    inputs = peer.inputs("Check", {"service": "demo.Demo"}, service="grpc.health.v1.Health")
    assert (await run(inputs))["response"] == {"status": "SERVING"}
