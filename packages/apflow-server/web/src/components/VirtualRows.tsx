/** Rows of one height, of which only those in sight are in the document. */
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";

const MORE = 6; // rows above and below those in sight

export interface Slice {
  first: number;
  last: number;
}

/** Return the rows that are in sight, in an element that scrolls. */
export function useSlice(scroller: RefObject<HTMLElement | null>, height: number, count: number): Slice {
  const [slice, setSlice] = useState<Slice>({ first: 0, last: 40 });
  useEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const look = () => {
      const first = Math.max(0, Math.floor(element.scrollTop / height) - MORE);
      const last = Math.ceil((element.scrollTop + element.clientHeight) / height) + MORE;
      setSlice((old) => (old.first === first && old.last === last ? old : { first, last }));
    };
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    look();
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, [height]);
  return { first: Math.min(slice.first, Math.max(0, count - 1)), last: Math.min(slice.last, count) };
}

/** Room for all rows, with those in sight in place. */
export function RowSpace({ count, height, first, children }: { count: number; height: number; first: number; children: ComponentChildren }) {
  return (
    <div class="row-space" role="presentation" style={{ height: `${count * height}px` }}>
      <div class="row-window" role="presentation" style={{ transform: `translateY(${first * height}px)` }}>
        {children}
      </div>
    </div>
  );
}

/** Scroll so that a row is in sight. */
export function revealRow(element: HTMLElement | null, at: number, height: number, headHeight = 0): void {
  if (element === null) return;
  const top = at * height;
  const room = element.clientHeight - headHeight;
  if (top < element.scrollTop) element.scrollTop = top;
  else if (top + height > element.scrollTop + room) element.scrollTop = top + height - room;
}
