import { type SSEEvent, useSSEUpdates } from "../hooks/useSSEUpdates.js";

interface Order {
  readonly id: string;
  progress: number;
  stage: string;
  error: string | null;
  lineItems: number | null;
}

/** Return the orders that events are about, the newest first. */
function ordersOf(events: readonly SSEEvent[]): Order[] {
  const orders = new Map<string, Order>();
  for (const event of events.toReversed()) {
    const known = orders.get(event.poId);
    const order = known ?? { id: event.poId, progress: 0, stage: "", error: null, lineItems: null };
    orders.delete(event.poId);
    orders.set(event.poId, order);
    if (event.type === "progress") {
      order.progress = event.progress;
      order.stage = event.message;
    } else if (event.type === "stage") order.stage = event.message || event.stage;
    else if (event.type === "error") order.error = event.error;
    else order.lineItems = event.lineItems ?? order.lineItems;
  }
  return [...orders.values()].reverse();
}

export interface RealTimeFeedbackProps {
  /** Default: the organisation of the client. */
  readonly merchantId?: string;
}

/** A card for each order, and a badge that shows whether updates are live. */
export function RealTimeFeedback({ merchantId }: RealTimeFeedbackProps) {
  const options = merchantId === undefined ? {} : { merchantId };
  const { events, isConnected, error, reconnect } = useSSEUpdates(options);
  const orders = ordersOf(events);
  return (
    <section aria-label="Orders">
      <p role="status">{isConnected ? "Live updates active" : "Reconnecting..."}</p>
      {error === null ? null : (
        <p role="alert">
          {error}{" "}
          <button type="button" onClick={reconnect}>
            Reconnect
          </button>
        </p>
      )}
      {orders.length ? null : <p>No order is in progress.</p>}
      {orders.map((order) => (
        <article key={order.id} aria-label={`Order ${order.id}`}>
          <h3>{order.id}</h3>
          <progress max={100} value={order.progress} aria-label={`Progress of ${order.id}`} />
          <p>{order.error ?? order.stage}</p>
          {order.lineItems === null ? null : <p>{order.lineItems} line items</p>}
        </article>
      ))}
    </section>
  );
}
