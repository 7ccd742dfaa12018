// Checks workflows as GitHub does before it runs them: syntax, expressions, contexts, cron. Every finding is an error.
import { readFile } from "node:fs/promises";
import { register } from "node:module";
import { pathToFileURL } from "node:url";

// The packages are made for bundlers, which import JSON without being told that it is JSON.
const json = `export async function resolve(specifier, context, next) {
  const found = await next(specifier, context);
  return found.url.endsWith(".json") ? { ...found, importAttributes: { type: "json" } } : found;
}`;
register(`data:text/javascript,${encodeURIComponent(json)}`);
const { validate } = await import("@actions/languageservice");
const { TextDocument } = await import("vscode-languageserver-textdocument");

// Reads the workflows that a workflow calls too, so that their outputs are known.
const fileProvider = {
  getFileContent: async ({ path }) => ({ name: path, content: await readFile(path, "utf8") }),
};
const files = process.argv.slice(2);
let findings = 0;
for (const file of files) {
  const document = TextDocument.create(pathToFileURL(file).href, "yaml", 1, await readFile(file, "utf8"));
  for (const { message, range } of await validate(document, { fileProvider })) {
    console.error(`${file}:${range.start.line + 1}:${range.start.character + 1}: ${message}`);
    findings += 1;
  }
}
process.exitCode = files.length === 0 || findings > 0 ? 1 : 0;
