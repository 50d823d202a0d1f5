"""Q-transform triggers: excess energy in tiles of time, frequency and Q, joined to triggers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import scipy.fft  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from twin_engine.clock import NS, hertz, seconds, time_of
from twin_engine.errors import DefinitionError
from twin_engine.kernels import clusters, qtransform
from twin_engine.kernels.psd import fill_and_count
from twin_engine.kernels.threads import in_parts, threads
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Marks, MarksSpec, Port, Spec
from twin_engine.signal.qtiling import DECIMATION, HALF_TAPS, Group, Tiling, tiling
from twin_engine.stage import Op, Stage, block_input, samples

fft: Any = scipy.fft  # it has no types

Single = NDArray[np.float32]

LOWEST_SCORE = 5.0  # tiles below it are not looked at
OVERLAP = 2.5  # independent trials to one independent tile, measured in Gaussian noise: rows and planes overlap less than tiles
HELD_BACK = Fraction(1, 4)  # s, by which a row's level trails at least, so that a glitch does not hide itself
TRUST = 64  # independent tiles behind a level at least: what is known from fewer keeps long tiles from ever standing out
COLUMNS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "start": ("i8", ()), "peak": ("i8", ()), "end": ("i8", ()), "channel": ("i8", ()), "score": ("f8", ()), "snr": ("f8", ()),
    "frequency": ("f8", ()), "bandwidth": ("f8", ()), "q": ("f8", ()),
}  # fmt: skip


@dataclass(frozen=True)
class QTriggers(Stage):
    """Find excess energy in white noise of unit variance (give it a ``Whiten``) with the Q transform, as Omicron does.

    band: Hz, as far as the bisquare windows fit below the Nyquist frequency. q: range of Q (at least 3.4). mismatch: the largest part
    of its energy that a signal between tiles loses. longest: tiles with a longer Q/f are left out: it bounds the lag. cadence: the
    longest time between transforms of a row, about which slow rows trail: shorter costs more. memory: of each row's level, to which the
    energies are normalised; rows of long tiles remember longer, until 64 independent tiles are behind a level, and a level trails by a
    tile's length (Q/f, at least 1/4 s), so that scattered light, which stays for seconds at low frequencies, is not its own background.
    rate: triggers a second that Gaussian noise gives, which sets the threshold. gap: tiles no further apart
    are one trigger. duration: after which a trigger is closed whatever follows.

    Ports: ``triggers``, marks with start, peak, end (ns UTC), channel, score, snr, frequency, bandwidth (of all its loud tiles, Hz) and
    q of the loudest tile; snr is
    sqrt(2 (E - 1)) of its normalised energy E. ``energy``, a block: for each channel the largest score in each hop, 5 where it is
    smaller. A score is minus the
    logarithm of the chance that one tile of Gaussian noise exceeds it (an exponential law); it takes into account how well the level is
    known. References: Chatterji et al.
    2004 (doi:10.1088/0264-9381/21/20/024), Robinet et al. 2020 (Omicron, arXiv:2007.11374).
    """

    source: str
    band: tuple[str | float, str | float] = (20, 1024)
    q: tuple[float, float] = (4, 64)
    mismatch: float = 0.2
    longest: str | float = "1 s"
    cadence: str | float = "1/4 s"
    memory: str | float = "2 s"
    rate: str | float = "1/s"
    gap: str | float = "1/4 s"
    duration: str | float = "1/2 s"

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Op:
        """Lay out the tiling for the input's rate; raises DefinitionError when it holds no row."""
        spec, place = block_input(self, "source", specs), f"QTriggers({self.source!r})"
        low, high = (float(hertz(edge)) for edge in self.band)
        if not 0 < low < high or not math.sqrt(11.0) < self.q[0] <= self.q[1] or not 0 < self.mismatch < 1:
            raise DefinitionError(
                place, expected="0 < band, 3.32 < q, each ascending, and 0 < mismatch < 1", found=f"{self.band}, {self.q}, {self.mismatch}"
            )
        hop_samples, levels = int(hop * spec.rate), 0
        while hop_samples % DECIMATION ** (levels + 1) == 0:
            levels += 1
        longest, cadence = float(seconds(self.longest)), float(seconds(self.cadence))
        plan = tiling(float(spec.rate), (low, high), self.q, self.mismatch, longest, cadence, levels)
        if not plan.groups:
            raise DefinitionError(
                place, expected="at least one row of tiles",
                found=f"band {self.band} Hz at {float(spec.rate):g} Hz, Q/f up to {self.longest}",
                mend="Widen the band or raise longest.",
            )  # fmt: skip
        return QTriggersOp(hop, spec, plan, self, place)


class QState(NamedTuple):
    """All ``(asset, channel, ...)``. past: the last samples of each decimation level, one after the other.

    run: valid samples in a row; runs: the same at the ends of the last cells. levels: recent levels of each row, group by group. cells:
    those not yet joined. open, waiting, queued: see ``join_cells``.
    """

    past: Single
    run: Int
    runs: Int
    levels: Single
    cells: Float
    open: Float
    waiting: Float
    queued: Int


class _Level(NamedTuple):
    """A decimation level. at: its place in ``past``. keep: samples kept.

    behind: samples by which its end trails the input's end over its factor.
    """

    at: int
    keep: int
    behind: int


class _Part(NamedTuple):
    """What some rows and channels of a step share.

    rows, start: ``(row,)``. channel: the first. ends: ``(row, channel, cell)``, valid
    samples in a row there. cells: ``(row, every channel, cell, FIELDS)``, from cell ``zero`` on. levels: of the state.
    """

    rows: Int
    channel: int
    start: Int
    ends: Int
    cells: Float
    zero: Int
    levels: Single


class QTriggersOp(Op):
    """A bound QTriggers."""

    def __init__(self, hop: Fraction, spec: BlockSpec, plan: Tiling, stage: QTriggers, place: str) -> None:
        rate = spec.rate
        self._plan, self._rate, self._channels = plan, rate, len(spec.channels)
        self._hop = int(hop * rate)
        self._cell = _divisor(self._hop, max(1, int(rate / 64)))
        self._levels = _levels(plan)
        self._taps = (2 * _quarter_band(HALF_TAPS)).astype(np.float32)
        self._reach = -(-max(g.guard * g.factor + g.delay for g in plan.groups) // self._cell)  # cells each side that a tile depends on
        lag = max(*(g.lag for g in plan.groups), (self._reach + 1) * self._cell)
        self._lag = -(-lag // self._hop) * self._hop
        q, f = plan.q, plan.frequency
        spans = [slice(g.row, g.row + g.count) for g in plan.groups]
        memories = [max(float(seconds(stage.memory)), TRUST / 2 / plan.independent[span].min()) for span in spans]
        known = np.concatenate([2 * memory * plan.independent[span] for memory, span in zip(memories, spans, strict=True)])
        self._trust = known.astype(np.float32)
        self._half = q / (4 * math.sqrt(math.pi) * f) * float(rate)
        self._band = np.stack([math.sqrt(math.pi) * f / q, f])
        held = [max(float(HELD_BACK), (q[span] / f[span]).max()) * float(rate) for span in spans]
        self._depths = [math.ceil(back / (g.hop * g.factor)) for g, back in zip(plan.groups, held, strict=True)]
        self._places = np.cumsum([0] + [g.count * depth for g, depth in zip(plan.groups, self._depths, strict=True)])
        self._shapes = [
            np.array([
                g.hop * g.tiles // g.length, g.row, g.length // g.tiles * g.factor, g.hop * g.factor, depth, self._cell, place
            ])
            for g, depth, place in zip(plan.groups, self._depths, self._places[:-1], strict=True)
        ]  # fmt: skip
        self._shares = _shares(plan.groups)
        trials = OVERLAP * float(plan.independent.sum()) * self._channels
        self._threshold = max(LOWEST_SCORE, math.log(trials / float(hertz(stage.rate))))
        gap, longest = samples(seconds(stage.gap), rate, place), samples(seconds(stage.duration), rate, place)
        forget = [-math.expm1(-g.hop * g.factor / float(rate) / memory) for g, memory in zip(plan.groups, memories, strict=True)]
        self._rates = [np.array([part, LOWEST_SCORE, self._threshold]) for part in forget]
        self._shape = np.array([self._cell, gap, longest], float)
        self._room = longest // self._cell + 3
        behind, margin = Fraction(self._lag) / rate, Fraction(2 * (self._reach + 1) * self._cell) / rate
        closing = -(-(gap + longest + self._cell) // self._hop) * hop
        after = spec.valid_after + margin
        self.memory = Fraction(max(self._lag, *(level.keep * DECIMATION**d for d, level in enumerate(self._levels)))) / rate
        self.outputs = {
            "triggers": MarksSpec(COLUMNS, spec.channels, spec.lag + behind + closing, after, "exponential", trials),
            "energy": BlockSpec(1 / hop, spec.channels, (), spec.lag + behind, after),
        }
        self._back = (spec.lag, -(-spec.lag // hop) * hop, int(closing * rate))

    def init(self, assets: int) -> QState:
        """Return the state before any sample: every row's level is that of white noise of unit variance."""
        shape, cells = (assets, self._channels), self._lag // self._cell
        return QState(
            np.zeros((*shape, sum(level.keep for level in self._levels)), np.float32), np.zeros(shape, np.int64),
            np.zeros((*shape, cells), np.int64), np.ones((*shape, self._places[-1]), np.float32), _no_cells((*shape, cells)),
            np.zeros((*shape, clusters.FIELDS)), np.zeros((*shape, self._room, clusters.FIELDS)), np.zeros((*shape, 1), np.int64),
        )  # fmt: skip

    def step(self, state: QState, inputs: Mapping[str, Port]) -> tuple[QState, dict[str, Port]]:
        """Take whole hops: transform what blocks are complete, then join the cells that all blocks have passed."""
        block = inputs["source"]
        assert isinstance(block, Block)  # noqa: S101  (bind has checked it)
        rows, cell, kept = block.rows, self._cell, self._lag // self._cell
        filled, runs = np.empty_like(block.values), np.empty(block.values.shape, np.int64)
        fill_and_count(block.values, block.valid, rows, state.run, filled, runs)
        ends = np.concatenate([state.runs[rows], runs[:, :, cell - 1 :: cell]], axis=2)
        cells = np.concatenate([state.cells[rows], _no_cells((*block.values.shape[:2], block.n // cell))], axis=2)
        zero = (block.start - self._lag) // cell
        fresh = ends[:, :, kept:]

        def transform(part: slice, channels: slice) -> None:
            own = np.ascontiguousarray(fresh[part, channels])
            new = _Part(rows[part], channels.start, block.start[part], own, cells[part], zero[part], state.levels)
            past = self._transform(state.past[rows[part], channels], filled[part, channels], new, range(len(self._plan.groups)))
            state.past[rows[part], channels] = past

        def share(_: slice, shares: slice) -> None:
            own = _no_cells(cells.shape[:3])
            new = _Part(rows, 0, block.start, np.ascontiguousarray(fresh), own, zero, state.levels)
            found[shares.start] = self._transform(state.past[rows], filled, new, self._shares[int(shares.start)]), own

        found: dict[int, tuple[Single, Float]] = {}
        if cells.shape[:2] == (1, 1) and len(self._shares) > 1:
            in_parts(1, len(self._shares), share)
            state.past[rows] = found[0][0]
            for k in range(len(found)):
                _merge_cells(cells, found[k][1])
        else:
            in_parts(len(rows), self._channels, transform)
        state.runs[rows], state.cells[rows] = ends[:, :, -kept:], cells[:, :, -kept:]
        done = block.n // cell
        live = ends[:, :, self._reach : self._reach + done] >= (2 * self._reach + 1) * cell
        return state, {"triggers": self._join(state, block, cells, live, zero), "energy": self._energy(block, cells[:, :, :done], live)}

    def _transform(self, kept: Single, filled: Float, part: _Part, groups: Sequence[int]) -> Single:
        """Decimate the new samples level by level, transform the blocks that they complete, and return the samples to be kept."""
        fresh: Single = filled.astype(np.float32)
        for number, level in enumerate(self._levels):
            span = slice(level.at, level.at + level.keep)
            past = np.concatenate([kept[:, :, span], fresh], axis=2)
            kept[:, :, span] = past[:, :, -level.keep :]
            begin = part.start // DECIMATION**number - level.behind  # index of the first new sample of the level
            for g in groups:
                if self._plan.groups[g].level == number:
                    self._group(g, self._plan.groups[g], past, begin, level.keep, fresh.shape[2], part)
            if number + 1 < len(self._levels):
                following = self._levels[number + 1]
                first = DECIMATION * int(part.start[0] // DECIMATION ** (number + 1) - following.behind) - int(begin[0]) + level.keep
                fresh = np.empty((past.shape[0], past.shape[1], fresh.shape[2] // DECIMATION), np.float32)
                flat = past.reshape(-1, past.shape[2])
                qtransform.decimate(flat, self._taps, first, fresh.reshape(len(flat), -1))
        return kept

    def _group(self, g: int, group: Group, past: Single, begin: Int, keep: int, fresh: int, part: _Part) -> None:
        jobs = self._jobs(group, begin, fresh, part)
        if not len(jobs.local):
            return
        offset = (jobs.block + 1) * group.hop + group.guard - group.length - begin[jobs.local] + keep
        cut = np.empty((len(offset), past.shape[1], group.length), np.float32)
        qtransform.cut_blocks(past, jobs.local, offset, cut)
        spectra: NDArray[np.complex64] = fft.rfft(cut, overwrite_x=True)
        qtransform.find_tiles(
            jobs, spectra, group.rows, self._trust, self._half, self._band, self._shapes[g], self._rates[g], part.channel, part.levels,
            part.cells, part.zero,
        )  # fmt: skip

    def _jobs(self, group: Group, begin: Int, fresh: int, part: _Part) -> qtransform.Jobs:
        """Return the blocks of a group that the new samples complete."""
        rows = len(begin)
        most = rows * (fresh // group.hop + 1)
        until, local, block = np.empty(rows, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
        whole = np.empty((most, part.ends.shape[1]), bool)
        shape = np.array([group.hop, group.guard, group.length, group.factor, group.delay, self._cell])
        n = qtransform.find_jobs(begin, part.start, fresh, part.ends, shape, until, local, block, whole)
        return qtransform.Jobs(part.rows, until, local[:n], block[:n], whole[:n])

    def _join(self, state: QState, block: Block, cells: Float, live: Bool, zero: Int) -> Marks:
        """Join the cells that are complete and return the triggers that are final."""
        rows, done = block.rows, live.shape[2]
        tables: list[Float] = []
        for i, row in enumerate(rows):
            out = np.empty((self._channels * (done + self._room), clusters.FIELDS + 1))
            found = clusters.join_cells(
                cells[i], live[i], int(zero[i]), self._hop // self._cell, self._shape, self._threshold,
                state.open[row], state.waiting[row], state.queued[row], out,
            )  # fmt: skip
            table = out[:found]
            tables.append(table[np.lexsort((table[:, -1], table[:, qtransform.TIME]))])
        row = np.repeat(rows, [len(t) for t in tables])
        table = np.concatenate(tables) if tables else np.zeros((0, clusters.FIELDS + 1))
        lane, low, high = table[:, qtransform.LANE].astype(np.int64), table[:, qtransform.LOW], table[:, qtransform.HIGH]
        start, peak, end = (
            time_of(np.rint(table[:, k]).astype(np.int64), self._rate) for k in (qtransform.START, qtransform.TIME, qtransform.END)
        )
        columns = {
            "start": start, "peak": peak, "end": end, "channel": table[:, -1].astype(np.int64), "score": table[:, qtransform.SCORE].copy(),
            "snr": np.sqrt(2 * (table[:, qtransform.ENERGY] - 1)), "frequency": self._plan.frequency[lane], "bandwidth": high - low,
            "q": self._plan.q[lane],
        }  # fmt: skip
        counts = live.reshape(len(rows), self._channels, -1, self._hop // self._cell).sum(axis=(1, 3)) * self._cell
        over, under = NS * self._rate.denominator, self._rate.numerator * self._channels
        judged = np.array([int(n) * over // under for n in counts.ravel()], np.int64).reshape(counts.shape)
        until = time_of(block.start + block.n - self._lag - self._back[2], self._rate)
        return Marks(row, peak.copy(), columns, rows.copy(), judged.sum(axis=1), until, judged)

    def _energy(self, block: Block, cells: Float, live: Bool) -> Block:
        """Return the loudest tile of each hop."""
        per_hop = self._hop // self._cell
        shape = (*live.shape[:2], -1, per_hop)
        score = np.maximum(cells[..., qtransform.SCORE].reshape(shape).max(axis=3), LOWEST_SCORE)
        lag, rounded, _ = self._back
        start = (block.start + int((lag - rounded) * self._rate) - self._lag) // self._hop
        return Block(score, np.asarray(live.reshape(shape).all(axis=3), np.bool_), block.rows.copy(), start)


def _quarter_band(half: int) -> Float:
    """Return a low-pass of a quarter of the band, 2*half + 1 taps: a sinc under a Kaiser window. scipy.signal takes a while to import."""
    taps = np.sinc(np.arange(-half, half + 1) / 4) * np.kaiser(2 * half + 1, 9.0)
    return taps / taps.sum()


def _levels(plan: Tiling) -> tuple[_Level, ...]:
    """Return what is kept of each decimation level."""
    found: list[_Level] = []
    end = DECIMATION ** (2 + max(g.level for g in plan.groups))
    at, whole = 0, end
    for number in range(1 + max(g.level for g in plan.groups)):
        keep = max([2 * HALF_TAPS + DECIMATION] + [g.length for g in plan.groups if g.level == number])
        found.append(_Level(at, keep, whole // DECIMATION**number - end))
        at, end = at + keep, (end - 1 - HALF_TAPS) // DECIMATION + 1
    return tuple(found)


def _shares(groups: tuple[Group, ...]) -> list[list[int]]:
    """Share out the groups over threads, about as much work to each."""
    work = [group.count / (group.hop * group.factor) for group in groups]
    shares: list[list[int]] = [[] for _ in range(min(threads(), len(groups)))]
    for g in sorted(range(len(groups)), key=lambda g: -work[g]):
        min(shares, key=lambda share: sum(work[k] for k in share)).append(g)
    return shares


def _merge_cells(cells: Float, other: Float) -> None:
    """Join other tiles' cells to cells, as if they had come there."""
    score, new = cells[..., qtransform.SCORE], other[..., qtransform.SCORE]
    louder = (new > score) | ((new == score) & (other[..., qtransform.LANE] < cells[..., qtransform.LANE]))
    for k in (qtransform.SCORE, qtransform.ENERGY, qtransform.LANE, qtransform.TIME):
        cells[..., k] = np.where(louder, other[..., k], cells[..., k])
    for k, widest in (
        (qtransform.START, np.minimum),
        (qtransform.END, np.maximum),
        (qtransform.LOW, np.minimum),
        (qtransform.HIGH, np.maximum),
    ):
        widest(cells[..., k], other[..., k], out=cells[..., k])


def _no_cells(shape: tuple[int, ...]) -> Float:
    """Return empty cells: no score, no extent."""
    cells = np.zeros((*shape, qtransform.FIELDS))
    cells[..., qtransform.START] = cells[..., qtransform.LOW] = np.inf
    cells[..., qtransform.END] = cells[..., qtransform.HIGH] = -np.inf
    return cells


def _divisor(n: int, limit: int) -> int:
    """Return the largest divisor of ``n`` that is at most ``limit``."""
    return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)
