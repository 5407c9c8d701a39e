import { expect, test } from "vitest";
import { axisOf, placeOf, ticksOf, timeAt } from "../../src/model/time_axis";

const HOUR = 3_600_000;

test("without idle time, places are in proportion to time", () => {
  const axis = axisOf({ from: 0, to: 1000 }, [{ from: 0, to: 1000 }], true);
  expect(placeOf(axis, 250)).toBeCloseTo(0.25);
  expect(timeAt(axis, 0.25)).toBeCloseTo(250);
});

test("a long time in which nothing ran takes little of the axis", () => {
  const axis = axisOf({ from: 0, to: 48 * HOUR }, [{ from: 0, to: HOUR }, { from: 47 * HOUR, to: 48 * HOUR }], true);
  const folded = axis.parts.filter((part) => part.isFolded);
  expect(folded).toHaveLength(1);
  expect(placeOf(axis, 47 * HOUR) - placeOf(axis, HOUR)).toBeLessThan(0.06);
  expect(placeOf(axis, HOUR)).toBeGreaterThan(0.4);
});

test("a bar is never inside of a folded part", () => {
  const busy = [{ from: 100, to: 5_000 }, { from: 90_000, to: 90_001 }, { from: 199_000, to: 200_000 }];
  const axis = axisOf({ from: 0, to: 200_000 }, busy, true);
  for (const part of axis.parts.filter((each) => each.isFolded)) {
    for (const span of busy) expect(span.from >= part.to || span.to <= part.from).toBe(true);
  }
});

test("idle time is as long as it was if it is not folded", () => {
  const axis = axisOf({ from: 0, to: 10 * HOUR }, [{ from: 0, to: HOUR }], false);
  expect(axis.parts.every((part) => !part.isFolded)).toBe(true);
  expect(placeOf(axis, 5 * HOUR)).toBeCloseTo(0.5);
});

test("places and times are the inverse of each other, also beside folded parts", () => {
  const axis = axisOf({ from: 0, to: 100 * HOUR }, [{ from: 0, to: HOUR }, { from: 60 * HOUR, to: 61 * HOUR }], true);
  for (const time of [0, HOUR / 2, 60.5 * HOUR]) expect(timeAt(axis, placeOf(axis, time))).toBeCloseTo(time, 0);
});

test("times outside of the axis are at its ends", () => {
  const axis = axisOf({ from: 100, to: 200 }, [], true);
  expect([placeOf(axis, 0), placeOf(axis, 1000)]).toEqual([0, 1]);
});

test("marks are at round times since the origin, in order, and none is in a folded part", () => {
  const axis = axisOf({ from: 0, to: 48 * HOUR }, [{ from: 0, to: HOUR }, { from: 47 * HOUR, to: 48 * HOUR }], true);
  const ticks = ticksOf(axis, 8, 0);
  expect(ticks.length).toBeGreaterThan(2);
  expect(ticks.map((tick) => tick.place)).toEqual([...ticks.map((tick) => tick.place)].sort((one, other) => one - other));
  expect(ticks.every((tick) => tick.at <= 2 * HOUR || tick.at >= 46 * HOUR)).toBe(true);
});

test("a run that took no time still has an axis", () => {
  const axis = axisOf({ from: 500, to: 500 }, [{ from: 500, to: 500 }], true);
  expect(placeOf(axis, 500)).toBe(0);
  expect(Number.isFinite(timeAt(axis, 1))).toBe(true);
});
