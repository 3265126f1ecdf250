import { type AnchorHTMLAttributes, useSyncExternalStore } from "react";
import { fragment, type Place, parse } from "./place.ts";

function subscribe(changed: () => void): () => void {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
}

export function usePlace(): Place {
  return parse(useSyncExternalStore(subscribe, fragment));
}

export function href(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/** Return a link to the present path with other query values; an empty value removes one. */
export function withQuery(change: Record<string, string>): string {
  const place = parse(fragment());
  for (const [name, value] of Object.entries(change)) {
    if (value) place.query.set(name, value);
    else place.query.delete(name);
  }
  const query = place.query.toString();
  return href(...place.path) + (query ? `?${query}` : "");
}

export function go(to: string, replace = false): void {
  if (replace) {
    history.replaceState(null, "", to);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = to;
}

export function Link(props: AnchorHTMLAttributes<HTMLAnchorElement> & { current?: boolean }) {
  const { current, ...rest } = props;
  return <a {...rest} aria-current={current ? "page" : undefined} />;
}
