/** Puts the script and the style of a page into its document, with a policy that allows nothing else. */
import { createHash } from "node:crypto";

export function inlineAll() {
  return {
    name: "inline-all",
    enforce: "post",
    // After Vite has written out its own placeholders.
    generateBundle: { order: "post", handler: inlineBundle },
  };
}

function inlineBundle(_options, bundle) {
  const files = Object.values(bundle);
  const page = files.find((file) => file.fileName.endsWith(".html"));
  const script = files.filter((file) => file.type === "chunk").map((file) => file.code).join("\n");
  const style = files.filter((file) => file.fileName.endsWith(".css")).map((file) => String(file.source)).join("\n");
  if (script.includes("__VITE_")) throw new Error("The script of the export contains a placeholder of Vite.");
  page.source = inlined(String(page.source), script.trim(), style.trim());
  for (const file of files) if (file !== page) delete bundle[file.fileName];
}

/** Return a document that contains its script and its style. */
export function inlined(html, script, style) {
  const code = script.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(code)}'`,
    `style-src '${hashOf(style)}'`,
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const meta = `<meta http-equiv="Content-Security-Policy" content="${policy}" />`;
  const without = html.replace(/\s*<script type="module"[^>]*><\/script>/, "").replace(/\s*<link rel="stylesheet"[^>]*>/g, "");
  // Functions, because text may contain patterns of `replace`. The script is last, because it reads the run.
  return without
    .replace(/<meta charset="utf-8" \/>/, (found) => `${found}\n    ${meta}`)
    .replace("</head>", () => `<style>${style}</style>\n  </head>`)
    .replace("</body>", () => `<script type="module">${code}</script>\n  </body>`);
}

function hashOf(text) {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}
