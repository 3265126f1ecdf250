/** The theme: that of the system, or the one that was chosen here. */

const KEY = "tailrace.theme";

export type Theme = "system" | "light" | "dark";

export function theme(): Theme {
  const found = localStorage.getItem(KEY);
  return found === "light" || found === "dark" ? found : "system";
}

export function applyTheme(chosen: Theme = theme()): void {
  if (chosen === "system") {
    localStorage.removeItem(KEY);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(KEY, chosen);
    document.documentElement.dataset.theme = chosen;
  }
}

export const isDark = (): boolean =>
  theme() === "dark" ||
  (theme() === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
