import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

/** One file, readable: whoever uses it bundles it, or loads it as it is. */
export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  build: {
    target: "es2022",
    minify: false,
    lib: { entry: "src/index.ts", formats: ["es"], fileName: "index" },
  },
});
