// Bundle the page: `node build.js FOLDER`. The packages must have been built.
import { rolldown } from "rolldown";

const [, , dir] = process.argv;
const define = {
  "process.env.NODE_ENV": '"production"',
  "process.env.REACT_APP_API_URL": '""',
};
const folder = import.meta.dirname;
const bundle = await rolldown({
  input: {
    main: `${folder}/main.tsx`,
    worker: `${folder}/../packages/client/dist/worker.js`,
  },
  platform: "browser",
  logLevel: "warn",
  transform: { define },
});
await bundle.write({ dir, format: "esm" });
