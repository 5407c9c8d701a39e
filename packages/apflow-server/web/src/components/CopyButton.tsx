/** A button that copies text. */
import { notify } from "../stores/perform";
import { Button } from "./Button";

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  return <Button icon="copy" kind="quiet" label={label} onClick={() => void copyText(text)} />;
}

export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    notify("Copied.");
  } catch {
    // Without TLS, browsers have no clipboard for pages that are not on this machine.
    notify("The browser does not let this page copy. Select the text, and copy it.", true);
  }
}
