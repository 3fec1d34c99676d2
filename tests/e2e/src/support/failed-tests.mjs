// failed-tests.mjs FILE: the tests that the reporter `failures.mjs` wrote down, a line each: file, name, and a pattern that is this name's
// alone, between tabs. A file that failed as such has no pattern.

import { readFileSync } from "node:fs";
import path from "node:path";

const [, , list] = process.argv;
const lines = readFileSync(list, "utf8").split("\n").filter((line) => line !== "");
for (const line of new Set(lines)) {
  const { name, file } = JSON.parse(line);
  const isFile = path.resolve(name) === file;
  console.log([file, name, isFile ? "" : `^${name.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&")}$`].join("\t"));
}
