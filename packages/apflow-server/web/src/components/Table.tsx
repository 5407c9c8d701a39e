/** A table that scrolls sideways where it has no room. */
import type { ComponentChildren } from "preact";

/** The heads of columns. `#` before the text: a column of numbers; `-`: only where there is room; `.`: not seen. */
export function Table({ label, heads, rows, className }: { label: string; heads: readonly string[]; rows: ComponentChildren; className?: string }) {
  return (
    <div class="table-scroll" role="region" aria-label={label} tabIndex={0}>
      <table class={className ?? ""}>
        <thead>
          <tr>{heads.map((head) => <Head key={head} head={head} />)}</tr>
        </thead>
        <tbody>{rows}</tbody>
      </table>
    </div>
  );
}

const CLASSES: Record<string, string> = { "#": "number", "-": "wide-only" };

function Head({ head }: { head: string }) {
  const text = head.replace(/^[#.-]+/, "");
  const classes = [...head.slice(0, head.length - text.length)].map((mark) => CLASSES[mark] ?? "").join(" ");
  return <th scope="col" class={classes}>{head.startsWith(".") ? <span class="unseen">{text}</span> : text}</th>;
}

/** A cell with a number, or with text at its end. */
export function Num({ children, isBad }: { children: ComponentChildren; isBad?: boolean }) {
  return <td class={isBad ? "number no" : "number"}>{children}</td>;
}
