/** The axis of the waterfall: from times to places, with idle time folded. Pure. */

export interface Span {
  from: number;
  to: number;
}

/** A part of the axis. A folded part stands for time in which nothing ran, and is short whatever its length. */
export interface AxisPart extends Span {
  /** Places from 0 to 1. */
  left: number;
  right: number;
  isFolded: boolean;
}

export interface Tick {
  at: number;
  place: number;
}

export interface TimeAxis extends Span {
  parts: readonly AxisPart[];
}

/** The share of the axis that one folded part takes. */
const FOLD_SHARE = 0.03;
const MAX_FOLDS = 8;
/** Idle time is folded if it is longer than this share of all time, and this many milliseconds. */
const MIN_IDLE_SHARE = 0.08;
const MIN_IDLE = 5_000;
const CELLS = 2_000;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5];

/** Return the axis for a range of time. `busy` are the spans in which something ran, in any order. */
export function axisOf(range: Span, busy: readonly Span[], foldIdle: boolean): TimeAxis {
  const to = range.to > range.from ? range.to : range.from + 1;
  const idle = foldIdle ? idleOf({ from: range.from, to }, busy) : [];
  const folded = idle.reduce((sum, each) => sum + each.to - each.from, 0);
  const scale = (1 - idle.length * FOLD_SHARE) / Math.max(1, to - range.from - folded);
  const parts: AxisPart[] = [];
  let at = range.from;
  let left = 0;
  const add = (until: number, isFolded: boolean): void => {
    if (until <= at) return;
    const right = left + (isFolded ? FOLD_SHARE : (until - at) * scale);
    parts.push({ from: at, to: until, left, right, isFolded });
    at = until;
    left = right;
  };
  for (const each of idle) {
    add(each.from, false);
    add(each.to, true);
  }
  add(to, false);
  return { from: range.from, to, parts };
}

/** Return the place of a time on the axis, from 0 to 1. Times outside of the axis are at its ends. */
export function placeOf(axis: TimeAxis, time: number): number {
  if (time <= axis.from) return 0;
  if (time >= axis.to) return 1;
  const part = axis.parts.find((each) => time <= each.to);
  if (part === undefined) return 1;
  return part.left + ((time - part.from) / (part.to - part.from)) * (part.right - part.left);
}

/** Return the time at a place of the axis. */
export function timeAt(axis: TimeAxis, place: number): number {
  const part = axis.parts.find((each) => place <= each.right) ?? axis.parts.at(-1);
  if (part === undefined) return axis.from;
  const share = Math.max(0, place - part.left) / Math.max(1e-9, part.right - part.left);
  return part.from + Math.min(1, share) * (part.to - part.from);
}

/** Return marks at round times, at most about `count`, none inside of folded parts. */
export function ticksOf(axis: TimeAxis, count: number, origin: number): Tick[] {
  const shown = axis.parts.filter((part) => !part.isFolded);
  const length = shown.reduce((sum, part) => sum + part.to - part.from, 0);
  const step = STEPS.find((each) => length / each <= count) ?? Math.ceil(length / count / 6048e5) * 6048e5;
  const ticks: Tick[] = [];
  for (const part of shown) {
    for (let at = origin + Math.ceil((part.from - origin) / step) * step; at <= part.to; at += step) {
      ticks.push({ at, place: placeOf(axis, at) });
    }
  }
  return ticks;
}

/** Return the longest spans in which nothing ran, in order. Time is looked at in cells, so that thousands of spans cost little. */
function idleOf(range: Span, busy: readonly Span[]): Span[] {
  const cell = (range.to - range.from) / CELLS;
  const isBusy = new Uint8Array(CELLS);
  for (const each of busy) {
    if (each.to < range.from || each.from > range.to) continue;
    const first = Math.max(0, Math.floor((each.from - range.from) / cell));
    const last = Math.min(CELLS - 1, Math.floor((each.to - range.from) / cell));
    isBusy.fill(1, first, last + 1);
  }
  const shortest = Math.max(MIN_IDLE, (range.to - range.from) * MIN_IDLE_SHARE);
  const idle: Span[] = [];
  for (let from = isBusy.indexOf(0); from >= 0; ) {
    const until = isBusy.indexOf(1, from);
    const to = until < 0 ? CELLS : until;
    if ((to - from) * cell >= shortest && to - from < CELLS) idle.push({ from: range.from + from * cell, to: range.from + to * cell });
    from = until < 0 ? -1 : isBusy.indexOf(0, until);
  }
  const longest = idle.sort((one, other) => other.to - other.from - (one.to - one.from)).slice(0, MAX_FOLDS);
  return longest.sort((one, other) => one.from - other.from);
}
