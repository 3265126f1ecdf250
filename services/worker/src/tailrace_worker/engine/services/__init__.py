"""Services that drives and actors share: timers, clock, liveness, statistics, estimates.

``EngineServices`` bundles them; the engine constructs it once for each worker.
"""
