/** Light or dark, or as the system of the reader is. Kept in this browser. */
import { signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";

const KEY = "apflow-theme";

export const theme = signal<Theme>(stored());

export function chooseTheme(next: Theme): void {
  theme.value = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // A browser that keeps nothing for the page still shows the theme until the page is closed.
  }
  applyTheme();
}

export function applyTheme(): void {
  document.documentElement.classList.toggle("is-light", theme.value === "light");
  document.documentElement.classList.toggle("is-dark", theme.value === "dark");
}

function stored(): Theme {
  try {
    const found = localStorage.getItem(KEY);
    return found === "light" || found === "dark" ? found : "auto";
  } catch {
    return "auto";
  }
}
