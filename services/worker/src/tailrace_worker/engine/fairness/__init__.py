"""Share the slots of a worker fairly between tenants.

``fair_share`` decides whether a tenant may have one more slot; ``tenant_queues`` holds the
executions of tenants that may not, in queues that all workers share.
"""
