import { 
  usePipelineStateSSE,
  useSSEConnectionState,
  useSSEFallbackState 
} from '@tailrace/react/pipelines'

function PipelineStatus({ pipelineId }) {
  const status = usePipelineStateSSE(pipelineId)
  const connectionState = useSSEConnectionState()
  const { isFallbackActive, resetFallback } = useSSEFallbackState()
  
  return (
    <div>
      <span>Status: {status}</span>
      <span>Connection: {connectionState}</span>
      {isFallbackActive && (
        <button onClick={resetFallback}>Retry SSE</button>
      )}
    </div>
  )
}

export { PipelineStatus }
