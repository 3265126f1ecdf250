import {
  type RefObject,
  useCallback,
  useEffect,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";
import {
  PipelineSSEManager,
  type PipelineStatus,
  type SSEConnectionState,
  type SSEManagerConfig,
} from "./pipelineManager.js";

let config: SSEManagerConfig = {};

/** Configure the shared manager before its first use; `sse: false` polls only. */
export function configure(options: SSEManagerConfig): void {
  config = { ...config, ...options };
  PipelineSSEManager.destroy();
}

const shared = () => PipelineSSEManager.getInstance(config);

/** The shared manager, made at its first use. */
export const pipelineSSEManager = {
  getInstance: (options?: SSEManagerConfig) => PipelineSSEManager.getInstance(options ?? config),
  destroy: () => PipelineSSEManager.destroy(),
  getPipelineStatus: (id: string) => shared().getPipelineStatus(id),
  subscribe: (ids: string | readonly string[], visible?: boolean) =>
    shared().subscribe(ids, visible),
  unsubscribe: (ids: string | readonly string[], visible?: boolean) =>
    shared().unsubscribe(ids, visible),
  addStatusListener: (listener: (id: string, status: PipelineStatus) => void) =>
    shared().addStatusListener(listener),
  addConnectionListener: (listener: (state: SSEConnectionState) => void) =>
    shared().addConnectionListener(listener),
  getConnectionState: () => shared().getConnectionState(),
  isFallbackActive: () => shared().isFallbackActive(),
  resetFallback: () => shared().resetFallback(),
  disconnect: () => shared().disconnect(),
  reconnect: () => shared().reconnect(),
};

const listenToStatus = (changed: () => void) => shared().addStatusListener(changed);
const listenToConnection = (changed: () => void) => shared().addConnectionListener(changed);

/** Follow pipelines while the component is mounted; ids are compared by content. */
export function usePipelineMonitoring(pipelineIds: readonly string[], visible = true): void {
  const key = [...new Set(pipelineIds)].sort().join("\n");
  useEffect(() => {
    const manager = shared();
    const ids = key ? key.split("\n") : [];
    manager.subscribe(ids, visible);
    return () => manager.unsubscribe(ids, visible);
  }, [key, visible]);
}

/** Follow one pipeline: its status, `idle` until it is known. */
export function usePipelineStateSSE(pipelineId: string): PipelineStatus {
  usePipelineMonitoring([pipelineId]);
  const get = useCallback(() => shared().getPipelineStatus(pipelineId) ?? "idle", [pipelineId]);
  return useSyncExternalStore(listenToStatus, get, () => "idle");
}

const NONE: Readonly<Record<string, PipelineStatus>> = {};

/** Follow pipelines: their statuses by id, without those that are not known yet. */
export function useMultiplePipelineState(
  pipelineIds: readonly string[],
): Readonly<Record<string, PipelineStatus>> {
  usePipelineMonitoring(pipelineIds);
  const last = useRef(NONE);
  const key = [...new Set(pipelineIds)].sort().join("\n");
  const get = useCallback(() => {
    const known: Record<string, PipelineStatus> = {};
    for (const id of key.split("\n")) {
      const status = shared().getPipelineStatus(id);
      if (status !== undefined) known[id] = status;
    }
    if (JSON.stringify(known) !== JSON.stringify(last.current)) last.current = known;
    return last.current;
  }, [key]);
  return useSyncExternalStore(listenToStatus, get, () => NONE);
}

/** Follow the state of the connection. */
export function useSSEConnectionState(): SSEConnectionState {
  const get = () => shared().getConnectionState();
  return useSyncExternalStore(listenToConnection, get, () => "disconnected");
}

/** Follow whether polling has taken over, and how to leave it. */
export function useSSEFallbackState() {
  const get = () => shared().isFallbackActive();
  const isFallbackActive = useSyncExternalStore(listenToConnection, get, () => false);
  const resetFallback = useCallback(() => shared().resetFallback(), []);
  return { isFallbackActive, resetFallback };
}

/** Return whether an element is on the screen, for the argument `visible` of the other hooks. */
export function useOnScreen(element: RefObject<Element | null>): boolean {
  const [isVisible, setIsVisible] = useState(true);
  useEffect(() => {
    if (element.current === null || typeof IntersectionObserver === "undefined") return;
    const observer = new IntersectionObserver((entries) => {
      setIsVisible(entries.at(-1)?.isIntersecting ?? true);
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  return isVisible;
}
