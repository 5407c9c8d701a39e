/** Leaves out code of others that the page does not use. */

const PRELOAD_HELPER = "\0vite/preload-helper.js";

export function lessCode() {
  return {
    name: "less-code",
    enforce: "pre",
    // The page has one style, so that nothing must be loaded before a part of the page that is loaded later.
    load: (id) => (id === PRELOAD_HELPER ? "export const __vitePreload = (load) => load();" : null),
  };
}
