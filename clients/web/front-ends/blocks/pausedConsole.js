const es = new EventSource('/api/workflow/paused-stream');

es.addEventListener('paused.initial', (e) => {
  console.log('Initial:', JSON.parse(e.data));
});

es.addEventListener('workflow.paused', (e) => {
  console.log('Paused:', JSON.parse(e.data));
});

es.addEventListener('workflow.resumed', (e) => {
  console.log('Resumed:', JSON.parse(e.data));
});

export {}
