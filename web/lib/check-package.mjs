// What `npm pack` would publish: checked by its list of files, then by a program that uses it as its users do.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const LIBRARY = import.meta.dirname;
const NEEDED = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "dist/index.d.ts", "dist/index.js", "package.json"];
/** Bytes, unpacked: a page's author asks what it costs. */
const SIZE_MAX_BYTES = 200_000;

const npm = (folder, ...args) => execFileSync("npm", args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

const folder = mkdtempSync(path.join(tmpdir(), "sluice-client-"));
try {
  // Its standard output is JSON alone: the prepack script speaks on standard error.
  const [packed] = JSON.parse(npm(LIBRARY, "pack", "--json", "--silent", "--pack-destination", folder));
  const files = packed.files.map((file) => file.path);
  for (const file of NEEDED) assert.ok(files.includes(file), `the package lacks ${file}: ${files.join(", ")}`);
  const strange = files.filter((file) => !NEEDED.includes(file) && !/^dist\/[a-z-]+\.d\.ts$/.test(file));
  assert.deepEqual(strange, [], "the package holds what is no part of it");
  assert.ok(packed.unpackedSize <= SIZE_MAX_BYTES, `${packed.unpackedSize} bytes are more than ${SIZE_MAX_BYTES}`);

  writeFileSync(path.join(folder, "package.json"), '{"private":true,"type":"module"}');
  npm(folder, "install", "--offline", "--no-audit", "--no-fund", "--silent", `./${packed.filename}`);
  writeFileSync(
    path.join(folder, "user.ts"),
    `import { publish, watch, type Layer, type SignallingError, type ViewerStats } from "@sluice-media/client";
const viewer = watch({ url: "/whep/cam1", token: async () => "t" });
viewer.on("error", (error: SignallingError) => console.log(error.problem?.detail));
viewer.on("layers", (layers: readonly Layer[]) => void viewer.setLayer({ rid: layers[0]?.rid ?? "" }));
viewer.on("stats", ({ latencyMs }: ViewerStats) => console.log(latencyMs));
// @ts-expect-error: there is no such event
viewer.on("nonsense", () => undefined);
// @ts-expect-error: a publisher needs media
publish({ url: "/whip/cam1" });
`,
  );
  const options = { target: "ES2022", module: "NodeNext", moduleResolution: "NodeNext", strict: true, noEmit: true };
  const compilerOptions = { ...options, lib: ["ES2022", "DOM"], types: [], skipLibCheck: false };
  writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["user.ts"] }));
  const tsc = path.join(LIBRARY, "../node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "-p", folder], { stdio: "inherit" });
  const entry = path.join(folder, "node_modules/@sluice-media/client/dist/index.js");
  const library = await import(pathToFileURL(entry).href);
  assert.deepEqual(Object.keys(library).filter((name) => typeof library[name] === "function").sort(), [
    "Publisher",
    "PublisherMeter",
    "SignallingError",
    "Viewer",
    "ViewerMeter",
    "publish",
    "sendableCodecs",
    "watch",
  ]);
  console.log(`${packed.name} ${packed.version}: ${files.length} files, ${packed.unpackedSize} bytes, used from TypeScript and as a module`);
} finally {
  rmSync(folder, { recursive: true });
}
