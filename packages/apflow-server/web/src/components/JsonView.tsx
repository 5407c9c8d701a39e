/** A JSON value as text, cut where it is long, and to be copied or downloaded whole. */
import { useMemo, useState } from "preact/hooks";
import type { Json } from "../api/_generated_operations";
import { bytesText } from "../model/format";
import { Button } from "./Button";
import { CopyButton } from "./CopyButton";

const SHOWN = 20_000; // characters
const MAX_SHOWN = 500_000;

export function JsonView({ value, name }: { value: Json; name: string }) {
  const text = useMemo(() => (typeof value === "string" ? value : JSON.stringify(value, null, 2)), [value]);
  const [isWhole, setWhole] = useState(false);
  const limit = isWhole ? MAX_SHOWN : SHOWN;
  const isCut = text.length > limit;
  return (
    <div class="json">
      <div class="json-tools">
        <span class="faint">{bytesText(text.length)}</span>
        <CopyButton text={text} label={`Copy: ${name}`} />
        <Button icon="download" kind="quiet" label={`Download: ${name}`} onClick={() => download(text, typeof value === "string" ? `${name}.txt` : `${name}.json`)} />
      </div>
      <pre tabIndex={0} aria-label={name}>{isCut ? `${text.slice(0, limit)}…` : text}</pre>
      {isCut && !isWhole && <Button kind="quiet" onClick={() => setWhole(true)}>Show more</Button>}
      {isCut && isWhole && <p class="faint">The rest is in the download.</p>}
    </div>
  );
}

export function download(text: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
