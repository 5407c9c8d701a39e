/** "Copy as": how to do the same from a shell, an A2A client or an MCP client. */
import { useState } from "preact/hooks";
import { addressOf } from "../api/root";
import { session } from "../api/session";
import { type Action, type Ways, waysOf } from "../model/action";
import { Button } from "./Button";
import { CopyButton } from "./CopyButton";
import { Dialog } from "./Dialog";

const TITLES: Record<keyof Ways, string> = {
  cli: "Command line",
  curl: "curl",
  a2a: "A2A",
  mcp: "MCP tool call",
};

export function CopyAs({ actions, label = "Copy as…" }: { actions: readonly Action[]; label?: string }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <Button icon="terminal" kind="quiet" title="How to do this from the command line, by HTTP, A2A or MCP" onClick={() => setOpen(true)}>
        {label}
      </Button>
      {isOpen && (
        <Dialog title="Do the same elsewhere" onClose={() => setOpen(false)} isWide>
          {actions.map((action) => (
            <WaysList key={action.method + action.title} action={action} hasTitle={actions.length > 1} />
          ))}
        </Dialog>
      )}
    </>
  );
}

function WaysList({ action, hasTitle }: { action: Action; hasTitle: boolean }) {
  const current = session.value;
  const needsToken = current.state === "open" && current.canEnd;
  const ways = waysOf(action, addressOf(""), needsToken);
  const names = Object.keys(TITLES) as (keyof Ways)[];
  return (
    <section class="ways">
      {hasTitle && <h3>{action.title}</h3>}
      {(hasTitle ? names.slice(0, 2) : names).map((name) => (
        <div class="way" key={name}>
          <div class="way-head">
            <span>{TITLES[name]}</span>
            <CopyButton text={ways[name]} label={`Copy: ${TITLES[name]}`} />
          </div>
          <pre tabIndex={0} aria-label={TITLES[name]}>{ways[name]}</pre>
        </div>
      ))}
    </section>
  );
}
