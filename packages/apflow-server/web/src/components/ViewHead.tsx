/** The head of a view, and what is said while its data is read or cannot be read. */
import type { ComponentChildren } from "preact";
import type { Polled } from "../stores/poll";
import { ErrorNote, Reading } from "./Notes";

export function ViewHead({ title, polled, children }: { title: string; polled?: Polled<unknown>; children?: ComponentChildren }) {
  const error = polled?.error.value ?? null;
  return (
    <>
      <header class="view-head"><h1>{title}</h1>{children}</header>
      {error !== null && <ErrorNote>{error}</ErrorNote>}
      {polled && polled.data.value === null && error === null && <Reading />}
    </>
  );
}
