/** What begins while the scripts that render the page are loaded: its streams, and its run. */
import { tailrace } from "./data/live.ts";
import { openRun } from "./run/opened.ts";
import { applyTheme } from "./ui/theme.ts";

applyTheme();
tailrace.prepare();
/** Settles when the page may be rendered. */
export const opened = openRun();
