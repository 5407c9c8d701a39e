// Reads pages of Markdown and reports each diagram that Mermaid does not understand.
//
//     node tools/docs_diagrams.js MERMAID_SCRIPT PAGE...
//
// Mermaid is made for browsers. For reading a diagram, it needs of one only that some objects exist.
"use strict";
const fs = require("fs");
const vm = require("vm");

class Element {}
const document = {
  nodeType: 9,
  implementation: { createHTMLDocument: () => document },
  documentElement: { style: {} },
  createElement: () => new Element(),
  addEventListener: () => {},
  querySelector: () => null,
  currentScript: null,
};
Object.assign(globalThis, {
  document, Element, Node: Element, NodeFilter: {}, NamedNodeMap: Element, HTMLFormElement: Element,
  HTMLTemplateElement: Element, DOMParser: Element, window: globalThis, addEventListener: () => {},
});

async function main([script, ...pages]) {
  vm.runInThisContext(fs.readFileSync(script, "utf8"));
  let isGood = true;
  for (const page of pages) {
    for (const [, diagram] of fs.readFileSync(page, "utf8").matchAll(/^```mermaid\n([^]*?)^```/gm)) {
      try {
        await globalThis.mermaid.parse(diagram);
      } catch (error) {
        isGood = false;
        console.log(`${page}: a diagram is not valid: ${error.message}`);
      }
    }
  }
  process.exitCode = isGood ? 0 : 1;
}

main(process.argv.slice(2));
