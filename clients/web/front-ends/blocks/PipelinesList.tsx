// In your component - no changes needed!
import { 
  useMultiplePipelineState, 
  usePipelineMonitoring 
} from '@tailrace/react/pipelines'

function PipelinesList({ pipelines }) {
  const pipelineIds = pipelines.map(p => p.pipeline_id)
  
  // Automatically uses SSE if enabled, falls back to polling
  const statuses = useMultiplePipelineState(pipelineIds)
  usePipelineMonitoring(pipelineIds)
  
  // ...
}

export { PipelinesList }
