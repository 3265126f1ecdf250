/** Documents that several pages read. */
import { type UseQueryResult, useQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { every, get } from "./api.ts";
import type {
  NodeType,
  TenantStatistics,
  VersionList,
  WorkflowDocument,
  WorkflowList,
} from "./types.ts";

const NO_TYPES: readonly NodeType[] = [];

export function useStatistics() {
  return useQuery({
    queryKey: ["statistics"],
    queryFn: () => get<TenantStatistics>("api/realtime/stats"),
    refetchInterval: every(5_000),
  });
}

/** Pages of a list that is offered as a whole. */
const ALL_PAGES = 10;

/** Return the first pages of a list, and whether there are more. */
export async function pagesOf<L, T>(
  path: string,
  pages: number,
  read: (list: L) => [entries: readonly T[], next: string | number | null | undefined],
  cursor = "cursor",
): Promise<{ entries: T[]; hasMore: boolean }> {
  const found: T[] = [];
  let place = "";
  for (let page = 0; page < pages; page++) {
    const [entries, next] = read(await get<L>(path + place));
    found.push(...entries);
    place = next ? `&${cursor}=${encodeURIComponent(next)}` : "";
    if (!place) break;
  }
  return { entries: found, hasMore: place !== "" };
}

/** Return the first pages of workflows. */
export function useWorkflows(pages = ALL_PAGES) {
  return useQuery({
    queryKey: ["workflows", pages],
    queryFn: async () => {
      const { entries, hasMore } = await pagesOf(
        "api/v1/workflows?limit=200",
        pages,
        ({ workflows, cursor }: WorkflowList) => [workflows, cursor],
      );
      return { workflows: entries, hasMore };
    },
    staleTime: 30_000,
    placeholderData: (before) => before,
  });
}

/** Return the types of nodes: the built-in ones, and those that workers have announced. */
export function useNodeTypes(): readonly NodeType[] {
  const { data } = useQuery({
    queryKey: ["node-types"],
    queryFn: () => get<{ node_types: NodeType[] }>("api/v1/node-types"),
    staleTime: 30_000,
  });
  return data?.node_types ?? NO_TYPES;
}

/**
 * Return why there is nothing to show: at the first failure, and until there is an answer. The query
 * itself forgets its error whenever it asks again.
 */
export function useProblem(found: UseQueryResult<unknown, unknown>): unknown {
  const last = useRef<unknown>(null);
  if (found.data !== undefined) last.current = null;
  else last.current = found.error ?? found.failureReason ?? last.current;
  return last.current;
}

/** Return the names of workflows by id, also of those stored since: asked for when they appear. */
export function useNames(seen: readonly { workflow_id: string }[] = []): Map<string, string> {
  const { data, refetch, isFetching } = useWorkflows();
  const names = new Map(data?.workflows.map((each) => [each.workflow_id, each.name]));
  const unknown = data ? seen.find(({ workflow_id }) => !names.has(workflow_id))?.workflow_id : "";
  // biome-ignore lint/correctness/useExhaustiveDependencies: one request for each unknown workflow
  useEffect(() => {
    if (unknown && !isFetching) void refetch();
  }, [unknown]);
  return names;
}

export function useWorkflow(id: string, version?: string) {
  return useQuery({
    queryKey: ["workflow", id, version ?? "newest"],
    queryFn: () =>
      get<WorkflowDocument>(`api/v1/workflows/${id}${version ? `?version=${version}` : ""}`),
    enabled: id !== "",
  });
}

/** Return the newest versions of a workflow, newest first. */
export function useVersions(id: string) {
  return useQuery({
    queryKey: ["versions", id],
    queryFn: () => get<VersionList>(`api/v1/workflows/${id}/versions?limit=200`),
    staleTime: 0,
  });
}
