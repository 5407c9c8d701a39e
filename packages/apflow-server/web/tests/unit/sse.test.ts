import { expect, test } from "vitest";
import { FrameReader } from "../../src/api/sse";

const STREAM = 'retry: 1000\n\nid: 7\nevent: task_started\ndata: {"a":1}\n\n: sign of life\n\nevent: log\ndata: x\ndata: y\n\n';

test("frames have their event, number and data", () => {
  expect(new FrameReader().read(STREAM)).toEqual([
    { event: "task_started", id: "7", data: '{"a":1}' },
    { event: "log", id: null, data: "x\ny" },
  ]);
});

test("frames are the same however the stream is cut", () => {
  for (let size = 1; size < 20; size++) {
    const reader = new FrameReader();
    const frames = [];
    for (let from = 0; from < STREAM.length; from += size) frames.push(...reader.read(STREAM.slice(from, from + size)));
    expect(frames).toEqual(new FrameReader().read(STREAM));
  }
});

test("a frame that has not ended is not a frame", () => {
  expect(new FrameReader().read("data: half")).toEqual([]);
});

test("lines may end with a carriage return", () => {
  expect(new FrameReader().read("event: e\r\ndata: 1\r\n\r\n")).toEqual([{ event: "e", id: null, data: "1" }]);
});

test("a very long frame in many pieces is read once", () => {
  const reader = new FrameReader();
  const part = "x".repeat(1000);
  reader.read("data: ");
  for (let at = 0; at < 5000; at++) expect(reader.read(part)).toEqual([]);
  expect(reader.read("\n\n")[0]?.data).toHaveLength(5_000_000);
});
