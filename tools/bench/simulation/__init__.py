"""The parts of ``tools.bench.simulate``: cost of a step, arrivals, the engine on a virtual clock, growth, plot."""
