export function isTyping(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  // The target of a key that was pressed in the editor is the element around it.
  const target = event.composedPath()[0] as HTMLElement | undefined;
  if (target instanceof HTMLInputElement && target.type === "range") return false;
  return target?.matches?.("input, textarea, select, [contenteditable]") ?? false;
}
