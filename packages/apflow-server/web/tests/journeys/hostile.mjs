/** Texts that would do harm in a page that takes them for markup or code. Each tries to set `globalThis.harmed`. */

const HARM = "globalThis.harmed=1";

const TEMPLATES = [
  (code) => `<script>${code}</script>`,
  (code) => `<img src=x onerror="${code}">`,
  (code) => `<svg onload=${code}>`,
  (code) => `"><script>${code}</script>`,
  (code) => `'><img src=x onerror=${code}>`,
  (code) => `</script><script>${code}</script>`,
  (code) => `</pre><iframe srcdoc="<script>parent.${code}</script>">`,
  (code) => `<a href="javascript:${code}">here</a>`,
  (code) => `javascript:${code}`,
  (code) => `<style>@import 'javascript:${code}';</style>`,
  (code) => `<math><mtext></style><img src=x onerror=${code}></mtext></math>`,
  (code) => `<details open ontoggle=${code}>`,
  (code) => `<input autofocus onfocus=${code}>`,
  (code) => `<body onload=${code}>`,
  (code) => `<!--><img src=x onerror=${code}>-->`,
  (code) => `<![CDATA[<script>${code}</script>]]>`,
  (code) => `{{constructor.constructor('${code}')()}}`,
  (code) => `\${${code}}`,
  (code) => `<template><script>${code}</script></template>`,
  (code) => `<object data="data:text/html,<script>parent.${code}</script>"></object>`,
];
const DISGUISES = [
  (text) => text,
  (text) => text.toUpperCase().replaceAll("GLOBALTHIS.HARMED=1", HARM),
  (text) => `${text}\u202e\u200b\ufeff`,
  (text) => `\n\n${text}\t`,
  (text) => `__proto__ ${text}`,
  (text) => text.replaceAll("<", "&lt;<"),
  (text) => `${"a".repeat(60)}${text}`,
  (text) => text.replace("<", "<\u000b"),
  (text) => `&#60;${text}&#62;`,
  (text) => JSON.stringify({ toString: text }),
];

/** 200 texts. */
export const HOSTILE = TEMPLATES.flatMap((template, at) => DISGUISES.map((disguise, number) => `${disguise(template(HARM))} ${at}.${number}`));

/** A tree in which each text is a name, a label, an input, a result, an error or a line of the log. */
export function hostileTree(id) {
  const leaves = HOSTILE.map((text, at) => ({
    id: `${id}-${at}`,
    parent_id: id,
    name: text.replaceAll("\u0000", "").slice(0, 200).trim() || "empty",
    label: text.slice(0, 200),
    schemas: { method: "echo" },
    inputs: at % 3 === 0 ? { error: text, log: text } : { text, log: text },
  }));
  return [{ id, name: HOSTILE[0], label: HOSTILE[1], tags: [HOSTILE[0].replace(/[",\\]/g, "").slice(0, 90)] }, ...leaves];
}
