import { toast } from "./parts.tsx";

/** Copy a text; say whether that was possible. */
export async function copy(text: string, done: string): Promise<void> {
  if (await isCopied(text)) toast(done);
  else toast("This browser does not let the page copy.", "error");
}

async function isCopied(text: string): Promise<boolean> {
  try {
    // Pages from plain HTTP have no clipboard.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return isCopiedByCommand(text);
  }
}

function isCopiedByCommand(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  // A field outside of a modal dialog cannot have the focus.
  const parent = document.querySelector("dialog[open]") ?? document.body;
  const before = document.activeElement;
  parent.append(area);
  try {
    area.focus();
    area.select();
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    area.remove();
    if (before instanceof HTMLElement) before.focus();
  }
}
