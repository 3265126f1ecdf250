import { API_URL } from '../surroundings'

function subscribeToExecution(executionId, token, orgId) {
  // EventSource nao suporta headers customizados
  // Usar query params ou fetch com ReadableStream
  const url = `${API_URL}/api/v1/sse/executions/${executionId}/stream?Authorization=Bearer%20${token}&organization_id=${orgId}`;

  const eventSource = new EventSource(url);

  // Conexao estabelecida
  eventSource.addEventListener('connected', (event) => {
    console.log('Conectado:', JSON.parse(event.data));
  });

  // Step iniciou
  eventSource.addEventListener('step:started', (event) => {
    const data = JSON.parse(event.data);
    console.log(`Step ${data.data.node_type} iniciou`);
  });

  // Step completou
  eventSource.addEventListener('step:completed', (event) => {
    const data = JSON.parse(event.data);
    console.log(`Step ${data.data.node_type} completou em ${data.data.duration_ms}ms`);
  });

  // Step falhou
  eventSource.addEventListener('step:failed', (event) => {
    const data = JSON.parse(event.data);
    console.error(`Step ${data.data.node_type} falhou:`, data.data.error);
  });

  // Workflow completou
  eventSource.addEventListener('execution:completed', (event) => {
    const data = JSON.parse(event.data);
    console.log('Workflow concluido!', data);
    eventSource.close();
  });

  // Workflow falhou
  eventSource.addEventListener('execution:failed', (event) => {
    const data = JSON.parse(event.data);
    console.error('Workflow falhou:', data.data.error_message);
    eventSource.close();
  });

  // Workflow pausado (aguardando aprovacao/assinatura)
  eventSource.addEventListener('execution:paused', (event) => {
    const data = JSON.parse(event.data);
    console.log('Aguardando:', data.data.reason);
  });

  // Erro de conexao
  eventSource.onerror = (error) => {
    console.error('Erro SSE:', error);
    eventSource.close();
  };

  return eventSource;
}

// Uso
const stream = subscribeToExecution('abc-123', 'jwt-token', 'org-456');

// Desconectar
stream.close();

export { subscribeToExecution }
