/** An answer that a view needs once: read anew when what it depends on changes. */
import { useEffect, useState } from "preact/hooks";

export interface Answered<T> {
  data: T | null;
  error: string | null;
}

/**
 * Return what `read` returns, or why it fails. While it is read anew, that is the answer from before.
 *
 * @param dependencies what the answer depends on. An answer that comes after one of them has changed is left out.
 */
export function useAnswer<T>(read: () => Promise<T>, dependencies: readonly unknown[]): Answered<T> {
  const [answered, setAnswered] = useState<Answered<T>>({ data: null, error: null });
  useEffect(() => {
    let isCurrent = true;
    read().then(
      (data) => isCurrent && setAnswered({ data, error: null }),
      (error: Error) => isCurrent && setAnswered({ data: null, error: error.message }),
    );
    return () => void (isCurrent = false);
  }, dependencies);
  return answered;
}
