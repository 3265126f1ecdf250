"""What drives and actors share: stores and commands, timers and clock, liveness, statistics.

``EngineServices`` bundles them; the engine constructs it once for each worker.
"""
