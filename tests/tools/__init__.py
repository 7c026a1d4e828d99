"""Tests of the shell tools."""
