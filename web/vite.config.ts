import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Connect, Plugin } from "vite";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** `/publish/{stream}` and `/watch/{stream}` are one file each, as the server has it. */
function streamPages(): Plugin {
  const rewrite: Connect.NextHandleFunction = (request, _response, next) => {
    request.url = request.url?.replace(/^\/(publish|watch)\/[^/?]+(?=$|\?)/, "/$1.html") ?? "/";
    next();
  };
  return {
    name: "stream-pages",
    configureServer: (server) => void server.middlewares.use(rewrite),
    configurePreviewServer: (server) => void server.middlewares.use(rewrite),
  };
}

/** The client library as one file beside the pages, which the server gives to everybody's pages: `/client.js`. */
function clientLibrary(): Plugin {
  return {
    name: "client-library",
    apply: "build",
    generateBundle() {
      this.emitFile({ type: "asset", fileName: "client.js", source: readFileSync(here("./lib/dist/index.js")) });
    },
  };
}

/** `npm run dev` talks to a server started beside it; `SLUICE_URL` says where when it is not the default. */
const server = process.env["SLUICE_URL"] ?? "http://127.0.0.1:8080";
const proxied = Object.fromEntries(["/api", "/whip", "/whep", "/hls"].map((path) => [path, server]));

export default defineConfig({
  appType: "mpa",
  plugins: [streamPages(), clientLibrary()],
  resolve: { alias: { "@sluice-media/client": here("./lib/src/index.ts") } },
  server: { proxy: proxied },
  preview: { proxy: proxied },
  build: {
    target: "es2022",
    // The server's content security policy allows no inline code and no `data:` script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // hls.js is one file, loaded where WebRTC finds no way.
    chunkSizeWarningLimit: 600,
    rollupOptions: { input: ["index.html", "publish.html", "watch.html"] },
  },
  test: { include: ["src/**/*.test.ts", "lib/src/**/*.test.ts"], environment: "node" },
});
