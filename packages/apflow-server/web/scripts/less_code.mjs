/** Leaves out code of others that the page does not use. */

const PRELOAD_HELPER = "\0vite/preload-helper.js";

export function lessCode() {
  return {
    name: "less-code",
    enforce: "pre",
    // The page has one style, so that nothing must be loaded before a part of the page that is loaded later.
    load: (id) => (id === PRELOAD_HELPER ? "export const __vitePreload = (load) => load();" : null),
    transform: (code, id) => (id.includes("/js-yaml/") ? { code: readingOnly(code), map: null } : null),
  };
}

/** Return js-yaml so that what writes YAML, and what reads YAML 1.1, can be left out. */
function readingOnly(code) {
  const reading = code.replaceAll(/^\t(?:identify|represent): (?:\(\w*\) => [^{]*?|[\w.]+)(,?)$/gm, "");
  const isPure = reading.replaceAll(/^(var \w+ = )(?=(?:\w+_SCHEMA\.withTags|new Schema|define\w+Tag)\()/gm, "$1/*#__PURE__*/ ");
  // Errors name the line and the column; the text is beside them.
  return isPure.replace("mark.snippet = makeSnippet(mark);", "").replace(/^var DUMP_SCHEMA = [^]*?^\}\);/m, "var DUMP_SCHEMA;");
}
