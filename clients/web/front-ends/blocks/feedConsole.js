// Check EventSource connection
const es = new EventSource('/api/realtime/events?merchantId=YOUR_ID')
es.addEventListener('progress', (e) => console.log('Progress:', e.data))
es.addEventListener('stage', (e) => console.log('Stage:', e.data))

export {}
