/** The keys of the page. */
import { Dialog } from "../components/Dialog";

const KEYS: readonly [title: string, keys: readonly [key: string, text: string][]][] = [
  ["Everywhere", [
    ["?", "This help"],
    ["/", "Search"],
    ["g then r", "Runs"],
    ["g then n", "New run"],
    ["g then s", "Schedules"],
    ["g then a", "Approvals"],
    ["g then x", "Executors"],
    ["g then y", "System"],
    ["Esc", "Close the drawer or the dialog"],
  ]],
  ["In the tasks of a run", [
    ["↑ ↓", "Move"],
    ["→ ←", "Unfold and fold, or go to the parent"],
    ["Home End", "First and last task"],
    ["Enter", "Open the task"],
    ["w", "Why is the task in its state?"],
    ["e", "Next task that failed"],
    ["+ − 0", "Less time, more time, all time"],
    ["< >", "Earlier and later"],
  ]],
];

export function HelpDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      {KEYS.map(([title, keys]) => (
        <section key={title}>
          <h3>{title}</h3>
          <dl class="keys">
            {keys.map(([key, text]) => (
              <div key={key}>
                <dt>{key.split(" ").map((part) => part === "then" ? " then " : <kbd key={part}>{part}</kbd>)}</dt>
                <dd>{text}</dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
      <p class="faint">“Copy as…” shows the command, the request and the call of a tool that do the same.</p>
    </Dialog>
  );
}
