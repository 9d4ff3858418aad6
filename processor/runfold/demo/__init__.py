"""The demonstration: simulated traffic, a service that is killed, and the proof that nothing was lost."""
