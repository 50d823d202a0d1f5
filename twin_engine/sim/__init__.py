"""Simulated assets with known faults: coloured noise, lines, glitches, and what a simulator is."""

from twin_engine.sim.base import START, Entry, Injection, Simulator, schedule
from twin_engine.sim.curve import CURVES, Curve, curve
from twin_engine.sim.glitches import KINDS
from twin_engine.sim.lines import Lines, Wander
from twin_engine.sim.noise import generator
from twin_engine.sim.strain import Interferometer, Witness

__all__ = [
    "CURVES", "KINDS", "START", "Curve", "Entry", "Injection", "Interferometer", "Lines", "Simulator", "Wander", "Witness", "curve",
    "generator", "schedule",
]  # fmt: skip
