/** Asks for a token, and where to keep it. */
import { useState } from "preact/hooks";
import { keepToken, openSession } from "../api/session";
import { Button } from "../components/Button";
import { ErrorNote } from "../components/Notes";

export function SignIn({ message }: { message: string | null }) {
  const [token, setToken] = useState("");
  const [isRemembered, setRemembered] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    await (isRemembered ? openSession(token.trim()) : keepToken(token.trim()));
    setBusy(false);
  };
  return (
    <main class="sign-in">
      <form onSubmit={(event) => void submit(event)}>
        <h1>apflow</h1>
        <p>This server needs a token. On its machine, <code>apflow ui</code> opens the page with one.</p>
        {message !== null && <ErrorNote>{message}</ErrorNote>}
        <div class="field">
          <label for="token">Token</label>
          <input id="token" type="password" autocomplete="off" required value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        </div>
        <fieldset>
          <legend>Keep it</legend>
          <label class="check"><input type="radio" name="keep" checked={!isRemembered} onChange={() => setRemembered(false)} /> in the memory of this page, until it is closed</label>
          <label class="check"><input type="radio" name="keep" checked={isRemembered} onChange={() => setRemembered(true)} /> as a session of this browser</label>
        </fieldset>
        <Button kind="main" isSubmit isDisabled={isBusy || token.trim() === ""}>Sign in</Button>
      </form>
    </main>
  );
}
