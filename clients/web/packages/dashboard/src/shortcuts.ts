import { useEffect, useRef } from "react";
import { go } from "./router.tsx";
import { isTyping } from "./ui/typing.ts";

/**
 * `g` and a letter opens a page, `j` and `k` move between rows, `?` lists the keys.
 *
 * @param pageOf the path of the page of a letter.
 */
export function useShortcuts(
  pageOf: (key: string) => string | undefined,
  showHelp: () => void,
): void {
  const isGoing = useRef(false);
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      // What is behind a dialog cannot be seen, so no key may act on it.
      if (isTyping(event) || document.querySelector("dialog[open]")) return;
      if (isGoing.current) {
        isGoing.current = false;
        const page = pageOf(event.key);
        if (page !== undefined) go(`#/${page}`);
      } else if (event.key === "g") isGoing.current = true;
      else if (event.key === "?") showHelp();
      else if (event.key === "j" || event.key === "k") moveRow(event.key === "j" ? 1 : -1);
      // A key that is held down would decide the next entry as well.
      else if ((event.key === "a" || event.key === "r") && !event.repeat) {
        document.querySelector<HTMLButtonElement>(`[data-key="${event.key}"]`)?.click();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [pageOf, showHelp]);
}

function moveRow(by: number): void {
  const rows = [...document.querySelectorAll<HTMLElement>("[data-row]")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  rows[Math.min(Math.max(at + by, 0), rows.length - 1)]?.focus();
}
