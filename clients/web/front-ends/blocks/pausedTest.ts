import { describe, executeWorkflow, expect, it, pausingWorkflow, registry, waitFor } from '../surroundings'

// test/sse-paused-workflows.test.ts
describe('Paused Workflows SSE', () => {
  it('should receive paused event when workflow pauses', async () => {
    const events: any[] = [];
    const es = new EventSource('/api/workflow/paused-stream');
    
    es.addEventListener('workflow.paused', (e) => {
      events.push(JSON.parse(e.data));
    });
    
    // Execute workflow that pauses
    await executeWorkflow(pausingWorkflow, registry);
    
    // Wait for event
    await waitFor(() => events.length > 0);
    
    expect(events[0]).toMatchObject({
      executionId: expect.any(String),
      pausedAt: 'wait-approval',
      workflowId: expect.any(String),
    });
    
    es.close();
  });
});
