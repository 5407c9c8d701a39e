import base64
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from peers.grpcserver import PROTOS, Peer, descriptor_set, encoded_descriptor_set, serve

from apflow.executor.grpc import (
    GrpcCallError,
    GrpcDescriptionError,
    GrpcExecutor,
    GrpcInputError,
    GrpcResponseError,
    catalogue,
    protofile,
)

DEMO = {name: text for name, text in PROTOS.items() if name.startswith("demo/")}
GREETER = """
    syntax = "proto3";
    package demo;
    message Name { string name = 1; }
    message Greeting { string text = 1; }
    service Demo { rpc Greet(Name) returns (Greeting); }
"""


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


async def run(inputs: dict[str, Any]) -> dict[str, Any]:
    return await GrpcExecutor().execute(inputs)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_a_server_describes_itself_once_for_many_calls(version: str):
    async with serve(reflect=(version,)) as peer:
        for name in ("a", "b"):
            assert (await run(peer.inputs("Greet", {"name": name})))["response"] == {"text": f"Hello {name}"}
        assert peer.reflected == {version: 1}


async def test_the_newer_version_of_reflection_is_preferred():
    async with serve(reflect=("v1", "v1alpha")) as peer:
        await run(peer.inputs("Greet", {"name": "x"}))
        assert peer.reflected == {"v1": 1}


async def test_a_server_that_does_not_describe_itself_is_called_with_a_file():
    async with serve(reflect=()) as peer:
        with pytest.raises(GrpcDescriptionError, match="proto_file"):
            await run(peer.inputs("Greet", {"name": "x"}))
        for given in (
            {"proto_file": GREETER},
            {"proto_file": DEMO},
            {"descriptor_set": encoded_descriptor_set()},
        ):
            result = await run(peer.inputs("Greet", {"name": "x"}, **given))
            assert result["response"] == {"text": "Hello x"}


async def test_what_the_task_gives_is_used_without_asking_the_server(peer: Peer):
    await run(peer.inputs("Greet", {"name": "x"}, proto_file=GREETER))
    assert not peer.reflected


async def test_an_unknown_service_or_method_is_told_with_what_there_is(peer: Peer):
    with pytest.raises(GrpcDescriptionError, match=r"no service 'demo\.Nope'.*It has: demo\.Demo, "):
        await run(peer.inputs("Greet", {}, service="demo.Nope"))
    with pytest.raises(GrpcDescriptionError, match=r"no method 'Nope' \(it has: .*Greet"):
        await run(peer.inputs("Nope", {}))
    with pytest.raises(GrpcDescriptionError, match=r"no service 'Nope'.*it has: demo\.Demo"):
        await run(peer.inputs("Nope", {}, service="Nope", proto_file=GREETER))
    assert not peer.calls


@pytest.mark.parametrize("name", ["a b", "demo.Demo\n", "/demo.Demo", "demo..Demo", "\ud800", "é", "1"])
async def test_what_is_no_name_is_refused(peer: Peer, name: str):
    for inputs in ({"service": name}, {"method": name}):
        with pytest.raises(GrpcInputError, match="is not a valid "):
            await run(peer.inputs("Greet", {}) | inputs)
    assert not peer.connections


async def test_a_message_is_no_service(peer: Peer):
    with pytest.raises(GrpcDescriptionError):
        await run(peer.inputs("Greet", {}, service="demo.Name"))


async def test_the_server_is_asked_again_for_a_method_that_it_did_not_have(peer: Peer):
    await run(peer.inputs("Greet", {"name": "x"}))
    for _ in range(2):
        with pytest.raises(GrpcDescriptionError):
            await run(peer.inputs("Nope", {}))
    assert peer.reflected["v1alpha"] == 3


async def test_the_server_is_asked_again_after_it_has_refused_a_method_that_it_describes(peer: Peer):
    with pytest.raises(GrpcCallError, match="UNIMPLEMENTED"):
        await run(peer.inputs("Absent", {}))
    await run(peer.inputs("Greet", {"name": "x"}))
    assert peer.reflected["v1alpha"] == 2


async def test_the_server_is_asked_again_after_some_time(peer: Peer, monkeypatch: pytest.MonkeyPatch):
    await run(peer.inputs("Greet", {"name": "x"}))
    monkeypatch.setattr(catalogue, "KEPT_SECONDS", 0)
    await run(peer.inputs("Greet", {"name": "x"}))
    assert peer.reflected["v1alpha"] == 2


async def test_descriptions_are_bounded(peer: Peer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalogue, "MAX_DESCRIPTIONS", 2)
    for number in range(4):
        await run(peer.inputs("Greet", {"name": "x"}, proto_file=f"{GREETER}// {number}"))
    assert len((await catalogue.catalogues.get())._entries) == 2


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (
            {"proto_file": "syntax = 'proto3'; message {"},
            r"compiled: input\.proto:1:\d+: Expected m",
        ),
        ({"proto_file": "import 'none.proto';"}, "none.proto: File not found"),
        ({"proto_file": "import '/etc/passwd';"}, "etc/passwd"),
        ({"proto_file": "import '../../etc/passwd';"}, "etc/passwd"),
        ({"proto_file": "syntax = 'proto3'; message A { B b = 1; }"}, '"B" is not defined'),
        ({"proto_file": {"../a.proto": ""}}, "not a valid file name"),
        ({"proto_file": {"/a.proto": ""}}, "not a valid file name"),
        ({"proto_file": {"a\0.proto": ""}}, "not a valid file name"),
        ({"proto_file": {"--python_out=x": ""}}, "not a valid file name"),
        ({"proto_file": {"-o/srv/owned": ""}}, "not a valid file name"),
        ({"proto_file": {"@/etc/passwd": ""}}, "not a valid file name"),
        ({"proto_file": {"a": "", "a/b.proto": ""}}, "do not fit together"),
        ({"proto_file": {"google/protobuf/any.proto": ""}}, "holds no file"),
        ({"descriptor_set": "no base64!"}, "FileDescriptorSet"),
        ({"descriptor_set": "AAAA"}, "FileDescriptorSet"),
    ],
)
async def test_a_description_that_cannot_be_used_is_refused(peer: Peer, given: dict[str, Any], fault: str):
    with pytest.raises(GrpcDescriptionError, match=fault) as caught:
        await run(peer.inputs("Greet", {}, **given))
    assert "root:" not in str(caught.value)
    assert "/tmp" not in str(caught.value)
    assert not peer.connections


async def test_a_descriptor_set_without_its_imports_says_what_is_missing(peer: Peer):
    files = FileDescriptorSet.FromString(descriptor_set())
    alone = FileDescriptorSet(file=[each for each in files.file if each.name == "demo/demo.proto"])
    given = base64.b64encode(alone.SerializeToString()).decode()
    with pytest.raises(GrpcDescriptionError, match=r"imports 'demo/common\.proto', which is not there"):
        await run(peer.inputs("Greet", {}, descriptor_set=given))


async def test_descriptions_that_import_each_other_in_a_circle_are_refused(peer: Peer):
    circle = FileDescriptorSet()
    for name, other in (("a", "b"), ("b", "a")):
        circle.file.add(name=name, dependency=[other])
    given = base64.b64encode(circle.SerializeToString()).decode()
    with pytest.raises(GrpcDescriptionError, match="imports itself"):
        await run(peer.inputs("Greet", {}, descriptor_set=given))


async def test_two_descriptions_are_one_too_many(peer: Peer):
    with pytest.raises(GrpcInputError, match="both given"):
        await run(peer.inputs("Greet", {}, proto_file=GREETER, descriptor_set="AAAA"))


async def test_common_protos_may_be_imported(peer: Peer):
    given = GREETER.replace("package demo;", 'package demo; import "google/api/annotations.proto";')
    with pytest.raises(GrpcCallError, match="name is empty"):
        await run(peer.inputs("Greet", {}, proto_file=given))


async def test_the_compiler_is_ended_when_it_takes_too_long(peer: Peer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protofile, "COMPILE_SECONDS", 0.001)
    with pytest.raises(GrpcDescriptionError, match="compile"):
        await run(peer.inputs("Greet", {}, proto_file=GREETER))


async def test_nothing_is_left_of_compiling(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await run(peer.inputs("Greet", {"name": "x"}, proto_file=DEMO))
    assert is_empty(tmp_path)


async def test_required_fields_are_asked_for(peer: Peer):
    old = GREETER.replace("proto3", "proto2").replace("string", "required string")
    with pytest.raises(Exception, match="lacks required fields: name"):
        await run(peer.inputs("Greet", {}, proto_file=old))


async def test_a_description_that_the_server_does_not_keep_to_is_told(peer: Peer):
    wrong = GREETER.replace("string text = 1", "fixed64 text = 1; string name = 2")
    result = await run(peer.inputs("Greet", {"name": "x"}, proto_file=wrong))
    assert result["response"] == {"text": "0", "name": ""}  # an unknown field is skipped, as protobuf does
    wrong = GREETER.replace("message Greeting { string text = 1; }", "message Greeting { Name name = 1; }")
    with pytest.raises(GrpcResponseError, match=r"no demo\.Greeting"):
        await run(peer.inputs("Greet", {"name": "x" * 40}, proto_file=wrong))


async def test_an_any_of_a_type_that_nobody_describes_is_told(peer: Peer):
    given = """
        syntax = "proto3";
        package demo;
        import "google/protobuf/any.proto";
        message Lax { string type_url = 1; bytes value = 2; }
        service Demo { rpc Any(Lax) returns (google.protobuf.Any); }
    """
    with pytest.raises(GrpcResponseError, match=r"no\.Such"):
        await run(peer.inputs("Any", {"type_url": "a/no.Such", "value": "AA=="}, proto_file=given))
