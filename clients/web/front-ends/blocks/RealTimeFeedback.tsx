import { useEffect, useState } from 'react'
import { Card, type POProgress, Wifi, WifiOff } from '../surroundings'
import { useSSEUpdates } from '@tailrace/react/merchant-feed'

export function RealTimeFeedback() {
  const { 
    events: sseEvents, 
    isConnected: sseConnected, 
    error: sseError 
  } = useSSEUpdates()
  
  // Merge SSE events with existing data
  const [activePOs, setActivePOs] = useState<POProgress[]>([])
  
  useEffect(() => {
    // Update PO progress from SSE events
    sseEvents.forEach(event => {
      if (event.type === 'progress' && event.poId) {
        setActivePOs(prev => prev.map(po => 
          po.id === event.poId 
            ? { ...po, progress: event.progress, stage: event.message }
            : po
        ))
      }
    })
  }, [sseEvents])
  
  return (
    <Card>
      {/* Connection status indicator */}
      <div className="flex items-center gap-2 mb-4">
        {sseConnected ? (
          <div className="flex items-center gap-2 text-green-600">
            <Wifi className="w-4 h-4" />
            <span className="text-sm">Live updates active</span>
          </div>
        ) : (
          <div className="flex items-center gap-2 text-orange-600">
            <WifiOff className="w-4 h-4" />
            <span className="text-sm">Reconnecting...</span>
          </div>
        )}
      </div>
      
      {/* Rest of component */}
    </Card>
  )
}
