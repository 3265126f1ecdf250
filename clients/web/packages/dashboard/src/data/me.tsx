/** What the token of this tab allows. */
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { get } from "./api.ts";
import type { Me } from "./types.ts";

export type Scope = "executions:write" | "workflows:write" | "operator";

export function useMe(): Me | undefined {
  // Another token reloads the page.
  const forever = Number.POSITIVE_INFINITY;
  const path = "api/v1/me";
  return useQuery({ queryKey: ["me"], queryFn: () => get<Me>(path), staleTime: forever }).data;
}

/** Whether the token has a scope; false until that is known. */
export function useMay(scope: Scope): boolean {
  const me = useMe();
  return me !== undefined && (me.scopes?.includes(scope) ?? true);
}

interface OnlyProps {
  scope: Scope;
  children: ReactNode;
  /** What others see. */
  others?: ReactNode;
}

/** Show a part only to those who may use it. */
export function Only({ scope, children, others = null }: OnlyProps) {
  return useMay(scope) ? children : others;
}
