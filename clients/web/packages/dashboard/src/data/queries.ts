/** Documents that several pages read. */
import { useQuery } from "@tanstack/react-query";
import { every, get } from "./api.ts";
import type { TenantStatistics, WorkflowDocument, WorkflowSummary } from "./types.ts";

export function useStatistics() {
  return useQuery({
    queryKey: ["statistics"],
    queryFn: () => get<TenantStatistics>("api/realtime/stats"),
    refetchInterval: every(5_000),
  });
}

export function useWorkflows() {
  return useQuery({
    queryKey: ["workflows"],
    queryFn: () =>
      get<{ workflows: WorkflowSummary[]; cursor?: string }>("api/v1/workflows?limit=200"),
    staleTime: 30_000,
  });
}

export function useWorkflow(id: string, version?: string) {
  return useQuery({
    queryKey: ["workflow", id, version ?? "newest"],
    queryFn: () =>
      get<WorkflowDocument>(`api/v1/workflows/${id}${version ? `?version=${version}` : ""}`),
    enabled: id !== "",
  });
}
