"""Tests of engine.native and the llama.cpp backend, on a tiny model."""
