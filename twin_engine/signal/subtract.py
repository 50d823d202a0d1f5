"""Noise subtraction: what witness channels predict of a channel is taken out of it, where later data have borne the prediction out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.fft  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from twin_engine.clock import hertz, seconds
from twin_engine.errors import DefinitionError
from twin_engine.kernels.wiener import fill, learn, recentre, solve
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Port, Spec, relabel
from twin_engine.signal.evidence import Gate, contradicted, follow_level, nuttall, power_of, weights
from twin_engine.stage import Op, Stage, block_input

Complex = NDArray[np.complex128]
fft: Any = scipy.fft  # it has no types
RIDGE = 1e-6  # of a diagonal term: duplicates of a witness do no harm
STEADY = 8  # ticks without a gap after which a witness is taken up, and ticks missed after which it is given up


class SubtractState(NamedTuple):
    """Asset first. Complex numbers are pairs of floats, since a snapshot holds no double complex ones.

    past, past_valid: five ticks of the source; witness, witness_valid: of the witnesses. centre: running mean of each witness, of
    ``centred`` ticks. tested: four ticks of the prediction under test, of which the last ``whole`` count. removed: a tick of what will be
    taken out. filter: the spectrum in use ``(input, bin)``. matrix, vector: see ``kernels.wiener``. level: mean log power
    ``(input + 1, bin)``, the source last, of ``seen`` segments. sums ``(3, bin)``: the evidence. chosen: inputs in use. steady: ticks for
    which each input has been whole. missed: ticks in which one in use was not.
    """

    past: Float
    past_valid: Bool
    witness: Float
    witness_valid: Bool
    centre: Float
    centred: Int
    tested: Float
    whole: Int
    removed: Float
    filter: Float
    matrix: Float
    vector: Float
    level: Float
    seen: Int
    sums: Float
    chosen: Bool
    steady: Int
    missed: Int


@dataclass(frozen=True)
class Plan:
    """What the configuration comes to; a segment is four ticks.

    tick, slow: samples of the source and of the witnesses in a tick. first, bins: the band within a segment's spectrum. decay: what a
    tick leaves of the past. roles: the witness inputs. channels: witnesses; products: pairs of them.
    """

    tick: int
    slow: int
    first: int
    bins: int
    decay: float
    roles: tuple[str, ...]
    channels: int
    products: tuple[tuple[int, int], ...]

    @property
    def inputs(self) -> int:
        """Witnesses and products."""
        return self.channels + len(self.products)

    @property
    def ratio(self) -> int:
        """Source samples in a witness sample."""
        return self.tick // self.slow

    @property
    def band(self) -> slice:
        """The band's bins within a segment's spectrum."""
        return slice(self.first, self.first + self.bins)


class SubtractOp(Op):
    """Ports ``clean`` and ``removed``: their sum is the source, valid where it is. Lag: half a segment.

    Everything is cut at the ticks of the epoch's grid. At a tick, the filter made of segments that ended two ticks before is put to the
    block that began then; after that the segment that ended a tick before tests what was predicted in it, and is learned from.
    """

    def __init__(self, source: BlockSpec, plan: Plan, memory: Fraction, significance: float) -> None:
        self._products = np.array(plan.products, np.int64).reshape(-1, 2)
        self._plan, self._gate = plan, Gate(4 * plan.slow, 4, significance)
        lag = Fraction(2 * plan.tick) / source.rate
        self.memory = memory + 3 * lag
        spec = relabel(source, lag=source.lag + lag, null="")
        self.outputs = {"clean": spec, "removed": spec}
        part = np.arange(plan.tick) / plan.tick
        self._rise = 0.5 - 0.5 * np.cos(np.pi * part)
        self._cut = 0.5 + 0.5 * np.cos(np.pi * np.minimum(8 * part, 1.0))
        lags = np.arange(-plan.slow, plan.slow) / plan.slow
        self._taper = 0.5 + 0.5 * np.cos(np.pi * np.clip(2 * np.abs(lags) - 1, 0, 1))
        self._short = [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(3 * n) / (3 * n)) for n in (plan.tick, plan.slow)]
        self._long = [nuttall(4 * plan.tick), nuttall(4 * plan.slow)]
        low, high = math.ceil(plan.first * 0.75), math.floor((plan.first + plan.bins - 1) * 0.75)
        self._local = slice(low, high + 1)  # the band's bins in the spectrum of three ticks
        self._nearest = np.clip(np.rint(np.arange(low, high + 1) / 0.75).astype(np.int64) - plan.first, 0, plan.bins - 1)
        self._offset = float(np.log(np.sum(self._short[0] ** 2) / np.sum(self._long[0] ** 2)))

    def init(self, assets: int) -> SubtractState:
        """Return the state before any sample."""
        p, n = self._plan, assets
        m, short = p.inputs, 3 * p.slow // 2 + 1
        return SubtractState(
            past=np.zeros((n, 5 * p.tick)), past_valid=np.zeros((n, 5 * p.tick), bool),
            witness=np.zeros((n, p.channels, 5 * p.slow)), witness_valid=np.zeros((n, p.channels, 5 * p.slow), bool),
            centre=np.zeros((n, p.channels)), centred=np.zeros((n, p.channels), np.int64),
            tested=np.zeros((n, 4 * p.tick)), whole=np.zeros((n, 1), np.int64), removed=np.zeros((n, p.tick)),
            filter=np.zeros((n, m, 2 * short)), matrix=np.zeros((n, p.bins, m, 2 * m)), vector=np.zeros((n, p.bins, 2 * m)),
            level=np.zeros((n, m + 1, p.bins)), seen=np.zeros((n, m + 1), np.int64), sums=np.zeros((n, 3, p.bins)),
            chosen=np.zeros((n, m), bool), steady=np.zeros((n, m), np.int64), missed=np.zeros((n, 1), np.int64),
        )  # fmt: skip

    def step(self, state: SubtractState, inputs: Mapping[str, Port]) -> tuple[SubtractState, dict[str, Port]]:
        """Take whole hops and give as many, half a segment earlier."""
        p, source = self._plan, cast("Block", inputs["source"])
        blocks = [cast("Block", inputs[role]) for role in p.roles]
        rows, n, tick = source.rows, source.n, p.tick
        clean, removed = np.empty_like(source.values), np.empty_like(source.values)
        valid = np.empty_like(source.valid)
        for i, row in enumerate(rows):
            own = SubtractState(*cast("Any", [a[row] for a in state]))  # views, written in place
            x, xv = np.append(own.past, source.values[i, 0]), np.append(own.past_valid, source.valid[i, 0])
            w = np.concatenate([own.witness, np.concatenate([b.values[i] for b in blocks])], axis=1)
            wv = np.concatenate([own.witness_valid, np.concatenate([b.valid[i] for b in blocks])], axis=1)
            x[~xv] = 0.0
            start = int(source.start[i])
            behind = start % tick  # source samples since the last tick
            parts = [own.removed.copy()]
            for end in range(tick - behind, n + 1, tick):
                slow = end // p.ratio
                here, there = slice(end, end + 5 * tick), slice(slow, slow + 5 * p.slow)
                parts.append(self._tick(own, x[here], xv[here], w[:, there], wv[:, there]))
            taken = np.concatenate(parts)
            own.removed[:] = taken[-tick:]
            removed[i, 0] = taken[behind : behind + n]
            valid[i, 0] = xv[3 * tick : 3 * tick + n]
            clean[i, 0] = x[3 * tick : 3 * tick + n] - removed[i, 0]
            own.past[:], own.past_valid[:] = x[-5 * tick :], xv[-5 * tick :]
            own.witness[:], own.witness_valid[:] = w[:, -5 * p.slow :], wv[:, -5 * p.slow :]
        begin = source.start - 2 * tick
        return state, {
            "clean": Block(clean, valid, rows.copy(), begin),
            "removed": Block(removed, valid.copy(), rows.copy(), begin.copy()),
        }

    def _tick(self, own: SubtractState, x: Float, xv: Bool, w: Float, wv: Bool) -> Float:
        """Take the five ticks that end now and return what is to be taken out of the last but one."""
        p = self._plan
        self._recentre(own, w[:, 4 * p.slow :], wv[:, 4 * p.slow :])
        z, zv = self._inputs(own, w, wv)
        self._choose(own, np.all(zv[:, 2 * p.slow :], axis=1))
        if whole := bool(own.chosen.any() and zv[own.chosen, 2 * p.slow :].all()):
            gain = np.empty((p.inputs, p.bins), np.complex128)
            solve(own.matrix.view(np.complex128), own.vector.view(np.complex128), own.chosen, RIDGE, gain)
        else:
            gain = np.zeros((p.inputs, p.bins), np.complex128)
        block = self._predict(own, gain, x, z[:, 2 * p.slow :])
        own.whole[:] = np.where(whole, own.whole + 1, 0)
        if xv[: 4 * p.tick].all():
            self._learn(own, x, z, np.all(zv[:, : 4 * p.slow], axis=1))
        return block

    def _inputs(self, own: SubtractState, w: Float, wv: Bool) -> tuple[Float, Bool]:
        """Return the witnesses less their centres, and their products, each with where it is whole."""
        p = self._plan
        z = np.empty((p.inputs, w.shape[1]))
        zv = np.empty(z.shape, bool)
        fill(w, wv, own.centre, z[: p.channels])
        zv[: p.channels] = wv
        for k, (i, j) in enumerate(p.products, p.channels):
            z[k], zv[k] = z[i] * z[j], wv[i] & wv[j]
        return z, zv

    def _recentre(self, own: SubtractState, w: Float, wv: Bool) -> None:
        """Move the centres by the newest tick; they matter to how well products and witnesses can be told apart."""
        use = wv.all(axis=1)
        own.centred[:] += use
        rate = np.where(use, np.maximum(1.0 / np.maximum(own.centred, 1), 1.0 - self._plan.decay), 0.0)
        shift = rate * (np.where(wv, w, 0.0).mean(axis=1) - own.centre)
        own.centre[:] += shift
        matrix, vector, used = own.matrix.view(np.complex128), own.vector.view(np.complex128), own.filter.view(np.complex128)
        recentre(matrix, vector, used, self._products, self._plan.channels, shift)

    def _choose(self, own: SubtractState, here: Bool) -> None:
        """Take up witnesses that are steady, give up those that fail; evidence belongs to one choice and starts anew with the next."""
        own.steady[:] = np.where(here, own.steady + 1, 0)
        steady = own.steady >= STEADY
        failing = (own.chosen & ~here).any()
        own.missed[:] = own.missed + 1 if failing else np.maximum(own.missed - 1, 0)
        given_up, taken_up = own.missed[0] > STEADY, not failing and (steady & ~own.chosen).any()
        if (given_up and (steady != own.chosen).any()) or taken_up:
            own.chosen[:] = steady
            own.missed[:], own.whole[:], own.sums[:], own.filter[:] = 0, 0, 0.0, 0.0

    def _predict(self, own: SubtractState, gain: Complex, x: Float, z: Float) -> Float:
        """Put the filter to the block; keep the prediction under test, and return what may be taken out."""
        p, used = self._plan, own.filter.view(np.complex128)
        spectra: Complex = fft.rfft(z)
        own.tested[:] = np.append(own.tested[p.tick :], self._apply(self._taps(gain), spectra))
        new = self._taps(gain * self._gate.gain(own.sums))
        before = self._apply(used, spectra)
        heard: Complex = fft.rfft(self._short[0] * x[2 * p.tick :])[self._local]
        seen: Complex = fft.rfft(self._short[1] * z)[:, self._local] * p.ratio
        level = own.level[-1][self._nearest] + self._offset
        if contradicted(heard, np.sum(new[:, self._local] * seen, axis=0), level):
            used[:] = 0.0
            return before * self._cut
        block = before + self._rise * (self._apply(new, spectra) - before)
        used[:] = new
        return block

    def _taps(self, gain: Complex) -> Complex:
        """Return the spectrum, over three ticks, of the gain's impulse response within a tick either way."""
        p = self._plan
        whole = np.zeros((p.inputs, 2 * p.slow + 1), np.complex128)
        whole[:, p.band] = gain
        impulse: Float = fft.irfft(whole, 4 * p.slow)
        short = np.zeros((p.inputs, 3 * p.slow))
        short[:, : p.slow] = impulse[:, : p.slow] * self._taper[p.slow :]
        short[:, -p.slow :] = impulse[:, -p.slow :] * self._taper[: p.slow]
        return fft.rfft(short)

    def _apply(self, taps: Complex, spectra: Complex) -> Float:
        """Return the prediction in the middle tick of three, at the source's rate."""
        p = self._plan
        whole: Float = fft.irfft(np.sum(taps * spectra, axis=0), 3 * p.tick)
        return whole[p.tick : 2 * p.tick] * p.ratio

    def _learn(self, own: SubtractState, x: Float, z: Float, use: Bool) -> None:
        """Test the prediction on the segment that ended a tick ago, then learn from it."""
        p, n = self._plan, 4 * self._plan.tick
        spectra = np.empty((p.inputs + 1, p.bins), np.complex128)
        spectra[:-1] = fft.rfft(self._long[1] * z[:, : 4 * p.slow])[:, p.band] * p.ratio
        spectra[:-1][~use] = 0.0
        spectra[-1] = fft.rfft(self._long[0] * x[:n])[p.band]
        present = np.append(use, True)
        power = power_of(spectra)
        follow_level(own.level, own.seen, power, present, p.decay)
        weight = weights(own.level, power, present)
        if own.whole[0] >= 4:
            predicted: Complex = fft.rfft(self._long[0] * own.tested)[p.band]
            self._gate.add(own.sums, spectra[-1], predicted, own.level[-1], weight, p.decay)
        if use[own.chosen].all():
            matrix, vector = own.matrix.view(np.complex128), own.vector.view(np.complex128)
            learn(spectra[-1], spectra[:-1], weight, p.decay, matrix, vector)


@dataclass(frozen=True)
class Subtract(Stage):
    """Take out of one channel what witness channels predict of it: a multi-channel Wiener filter, trained anew four times a segment.

    source: one channel. witness: one or more inputs of one rate, which divides the source's. band: Hz. memory: the time constant of
    forgetting, in training and evidence. segment: the filter answers over a quarter of it either way, and tells frequencies apart by four
    over it. products: pairs of witness channels whose product is a witness too, for coupling that another channel modulates.
    significance: the chance, for a bin at a moment, that a prediction which has nothing to do with the source is used.

    A prediction is used only where it has agreed, significantly, with data that came after its filter was made; until then, and while a
    witness in use is missing, the source passes unchanged. Loud segments lose weight in training, and a block that its own data
    contradict is left alone. Witnesses are taken up after two segments without a gap. Transfer functions come from averaged
    cross-spectra (Allen, Hua and Ottewill 1999, gr-qc/9909083). Lag: half a segment.
    """

    INPUTS = ("source", "witness")

    source: str
    witness: str | tuple[str, ...]
    band: tuple[Any, Any] = (10, 500)
    memory: Any = "64 s"
    segment: Any = "2 s"
    products: tuple[tuple[str, str], ...] = ()
    significance: float = 1e-3

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> SubtractOp:
        """Check rates, band and products, and plan the ticks."""
        del hop
        source, place = block_input(self, "source", specs), f"Subtract({self.source!r})"
        roles = tuple(role for role in self.inputs() if role != "source")
        witnesses = [block_input(self, role, specs) for role in roles]
        slow = witnesses[0].rate if witnesses else Fraction(0)
        if len(source.channels) != 1 or not witnesses or any(w.rate != slow for w in witnesses) or (source.rate / slow).denominator != 1:
            raise DefinitionError(
                place, expected="one channel, and witnesses of one rate that divides its own",
                found=f"{len(source.channels)} at {source.rate} Hz, witnesses at {', '.join(str(w.rate) for w in witnesses) or 'none'} Hz",
                mend="Take Resample or Decimate for the witnesses.",
            )  # fmt: skip
        segment, memory = seconds(self.segment), seconds(self.memory)
        ticks = segment / 4 * slow
        if ticks.denominator != 1 or ticks < 8 or memory < 2 * segment:
            raise DefinitionError(
                place, expected="a quarter segment of whole witness samples, 8 or more, and a memory of two segments or more",
                found=f"{float(ticks):g} samples, memory {float(memory):g} s", mend="Change segment or memory.",
            )  # fmt: skip
        low, high = (hertz(edge) for edge in self.band)
        first, last = math.ceil(low * segment), math.floor(high * segment)
        if not 1 <= first <= last or high >= slow / 2:
            raise DefinitionError(
                place, expected=f"a band of at least {float(1 / segment):g} Hz below {float(slow / 2):g} Hz, half the witnesses' rate",
                found=f"{float(low):g} to {float(high):g} Hz", mend="Change band or segment.",
            )  # fmt: skip
        if not 0 < self.significance < 1:
            raise DefinitionError(place, expected="a significance between 0 and 1", found=f"{self.significance:g}")
        names = [name for w in witnesses for name in w.channels]
        unknown = [name for pair in self.products for name in pair if name not in names]
        if unknown:
            raise DefinitionError(place, expected=f"products of witness channels ({', '.join(names)})", found=repr(unknown[0]))
        products = tuple((names.index(a), names.index(b)) for a, b in self.products)
        decay = math.exp(-segment / 4 / memory)
        plan = Plan(int(ticks * source.rate / slow), int(ticks), first, last - first + 1, decay, roles, len(names), products)
        return SubtractOp(source, plan, memory, self.significance)
