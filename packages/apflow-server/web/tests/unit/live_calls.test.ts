import { expect, test } from "vitest";
import { type LiveCall, batchOf, lastEventIdOf, noteDigests } from "../../src/model/live_calls";

const call = (method: string, digest = ""): LiveCall => ({ method, params: { limit: 1 }, digest });

test("calls are a batch, each with its position", () => {
  expect(batchOf([call("a"), call("b")])).toEqual([
    { jsonrpc: "2.0", id: 0, method: "a", params: { limit: 1 } },
    { jsonrpc: "2.0", id: 1, method: "b", params: { limit: 1 } },
  ]);
});

test("a call that stays is known when others come and go", () => {
  const [kept, gone, added] = [call("kept"), call("gone"), call("added")];
  noteDigests([gone, kept], "d1-");
  noteDigests([gone, kept], "d1-d2");
  expect(lastEventIdOf([kept, added])).toBe("d2-");
  expect(lastEventIdOf([gone, kept])).toBe("d1-d2");
});

test("an id with more parts than calls is taken as far as it goes", () => {
  const only = call("only");
  noteDigests([only], "d1-d2");
  expect(only.digest).toBe("d1");
});
