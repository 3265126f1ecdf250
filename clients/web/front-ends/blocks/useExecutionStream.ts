import { useEffect, useState } from 'react';

interface ExecutionEvent {
  type: string;
  data: any;
  timestamp: string;
}

type StreamStatus = 'connecting' | 'connected' | 'completed' | 'failed' | 'disconnected';

export function useExecutionStream(executionId: string | null, token: string, orgId: string) {
  const [events, setEvents] = useState<ExecutionEvent[]>([]);
  const [status, setStatus] = useState<StreamStatus>('disconnected');
  const [error, setError] = useState<string | null>(null);

  useEffect(() => {
    if (!executionId) return;

    setStatus('connecting');
    setEvents([]);
    setError(null);

    const url = `${process.env.REACT_APP_API_URL}/api/v1/sse/executions/${executionId}/stream?Authorization=Bearer%20${token}&organization_id=${orgId}`;
    const eventSource = new EventSource(url);

    eventSource.addEventListener('connected', () => {
      setStatus('connected');
    });

    const handleEvent = (type: string) => (e: MessageEvent) => {
      const data = JSON.parse(e.data);
      setEvents(prev => [...prev, { type, data, timestamp: data.timestamp }]);
    };

    eventSource.addEventListener('step:started', handleEvent('step:started'));
    eventSource.addEventListener('step:completed', handleEvent('step:completed'));
    eventSource.addEventListener('step:failed', handleEvent('step:failed'));

    eventSource.addEventListener('execution:completed', (e) => {
      handleEvent('execution:completed')(e);
      setStatus('completed');
      eventSource.close();
    });

    eventSource.addEventListener('execution:failed', (e) => {
      const data = JSON.parse(e.data);
      handleEvent('execution:failed')(e);
      setStatus('failed');
      setError(data.data?.error_message || 'Erro desconhecido');
      eventSource.close();
    });

    eventSource.addEventListener('execution:paused', handleEvent('execution:paused'));

    eventSource.onerror = () => {
      setStatus('disconnected');
      eventSource.close();
    };

    return () => eventSource.close();
  }, [executionId, token, orgId]);

  return { events, status, error };
}
