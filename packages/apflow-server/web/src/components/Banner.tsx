/** Says that the server does not answer. The page continues with what it has, and misses nothing. */
import { away } from "../api/connection";

export function Banner() {
  return (
    <div role="status" aria-live="assertive">
      {away.value !== null && (
        <p class="banner" title={away.value}>
          <strong>The server does not answer.</strong> The page shows what it has, tries again, and catches up by itself.
        </p>
      )}
    </div>
  );
}
