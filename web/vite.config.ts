import type { Connect, Plugin } from "vite";
import { defineConfig } from "vitest/config";

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

/** `npm run dev` talks to a server started beside it; `SLUICE_URL` says where when it is not the default. */
const server = process.env["SLUICE_URL"] ?? "http://127.0.0.1:8080";
const proxied = Object.fromEntries(["/api", "/whip", "/whep"].map((path) => [path, server]));

export default defineConfig({
  appType: "mpa",
  plugins: [streamPages()],
  server: { proxy: proxied },
  preview: { proxy: proxied },
  build: {
    target: "es2022",
    // The server's content security policy allows no inline code and no `data:` script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: ["index.html", "publish.html", "watch.html"] },
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
