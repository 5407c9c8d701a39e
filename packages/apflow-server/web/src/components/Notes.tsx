/** Short texts about the state of a view: what failed, what is empty, what is being read. */
import type { ComponentChildren } from "preact";

export function ErrorNote({ children }: { children: ComponentChildren }) {
  return <p class="note note-error" role="alert">{children}</p>;
}

export function FaultList({ faults }: { faults: readonly string[] }) {
  if (faults.length === 0) return null;
  return <ErrorNote><ul>{faults.map((fault) => <li key={fault}>{fault}</li>)}</ul></ErrorNote>;
}

export function EmptyNote({ children }: { children: ComponentChildren }) {
  return <div class="note note-empty">{children}</div>;
}

export function Reading() {
  return <p class="note faint" role="status">Reading…</p>;
}
