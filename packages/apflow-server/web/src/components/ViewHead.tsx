/** The head of a view, and what is said while its data is read or cannot be read. */
import type { ComponentChildren } from "preact";
import type { Live } from "../stores/live";
import { ErrorNote, Reading } from "./Notes";

export function ViewHead({ title, source, children }: { title: string; source?: Live<unknown>; children?: ComponentChildren }) {
  const error = source?.error.value ?? null;
  return (
    <>
      <header class="view-head"><h1>{title}</h1>{children}</header>
      {error !== null && <ErrorNote>{error}</ErrorNote>}
      {source && source.data.value === null && error === null && <Reading />}
    </>
  );
}
