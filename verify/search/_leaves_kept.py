"""The linear program of a whole case, which a solver keeps from part to part.

Splits of relus change bounds of its unknowns and rows alone, so that the dual simplex method goes on from the basis of
the part before: a few steps instead of a fresh start.
Source: Huangfu and Hall 2018, Parallelizing the dual revised simplex method, Math. Prog. Comp. 10 (HiGHS).
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse as sp

from axiom_jax.verification.search._leaves_affine import Affine, Network, phases
from axiom_jax.verification.search._leaves_relaxed import INFEASIBLE, OPTIMAL, Placed, Relaxed
from axiom_jax.verification.search.subproblem import Split, Subproblem

LIMIT = 1  # status: out of time, or the solver failed


class Kept:
    """The program of a case, with the rows of all its atoms.

    Args:
        network: the affine maps; its units are relus (see `keeps`). root: the whole case. margins: of its atoms.
    """

    def __init__(self, network: Network, root: Subproblem, margins: Affine):
        import highspy  # loads a library that other searches do without

        relaxed = Relaxed(network, root)
        self.network, self.flat, self.named = network, relaxed.flat, relaxed.named
        atoms, t = margins.matrix.shape[0], relaxed.columns
        self.atoms = relaxed.below.add(-margins.offset, (margins.matrix, None), (np.full(atoms, t), -1.0))
        self.right = -margins.offset
        below, high = relaxed.below.system(t + 1)
        equal, even = relaxed.equal.system(t + 1)
        matrix: Any = sp.vstack([below, equal] if equal is not None else [below], format="csc")
        self.inequalities, self.transposed = len(high), matrix.T.tocsr()
        high = np.concatenate([high, even]) if equal is not None else high
        low = high.copy()
        low[: self.inequalities] = -np.inf
        self.place = self._places(relaxed, high)
        self.phase: dict[tuple[int, int], int] = {}  # of the neurons that are settled now
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = t + 1, len(high)
        lp.col_cost_ = np.eye(1, t + 1, t)[0]
        lp.col_lower_ = np.append(np.concatenate(relaxed.lower), -np.inf)
        lp.col_upper_ = np.append(np.concatenate(relaxed.upper), np.inf)
        high[self.atoms] = np.inf
        lp.row_lower_, lp.row_upper_ = low, high
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
        self.asked: tuple[int, ...] = ()  # atoms whose rows are in force
        self.solver = solver = _silent()
        for option, value in (("output_flag", False), ("threads", 1), ("presolve", "off"), ("solver", "simplex")):
            solver.setOptionValue(option, value)
        solver.passModel(lp)
        self.status = {highspy.HighsModelStatus.kOptimal: OPTIMAL, highspy.HighsModelStatus.kInfeasible: INFEASIBLE}

    def _places(self, relaxed: Relaxed, high: np.ndarray) -> dict[tuple[int, int], tuple[int, int, int, int, float]]:
        """By neuron that is open in the whole case: columns z and y, rows y ≥ z and of the chord, the latter's side."""
        found = {}
        for unit, (neurons, on_z), chords in zip(self.network.units, relaxed.flat, relaxed.chords, strict=True):
            for neuron, row, chord in zip(neurons.tolist(), on_z.tolist(), chords.tolist(), strict=True):
                z = relaxed.named[unit.site, neuron]
                found[unit.site, neuron] = z, unit.start + neuron, row, chord, float(high[chord])
        return found

    def takes(self, splits: Sequence[Split]) -> bool:
        """Whether bounds alone express the splits."""
        return all(s.at == 0 and (s.site, s.neuron) in self.place for s in splits)

    def placed(self, part: Subproblem) -> Placed:
        """Where the neurons and splits of a part lie in the program."""
        boxes = {s: (lo.ravel(), hi.ravel()) for s, (lo, hi) in part.boxes.items()}
        open_ = phases(self.network, boxes)
        flat = []
        for (neurons, on_z), now in zip(self.flat, open_, strict=True):
            left = now[neurons]
            flat.append((neurons[left], on_z[left]))
        held = [("lower" if s.sign > 0 else "upper", self.named[s.site, s.neuron]) for s in part.splits]
        return Placed(self.network, part, boxes, open_, flat, held)

    def least(self, splits: Sequence[Split], atoms: Sequence[int], seconds: float) -> tuple[Any, np.ndarray]:
        """Minimise the largest of some margins over a part; see `Relaxed.least`."""
        status = self._run(splits, atoms, seconds)
        solution = self.solver.getSolution()
        rows, columns = np.array(solution.row_dual), np.array(solution.col_dual)
        return self._result(status, np.array(solution.col_value), rows, columns), self.atoms[list(atoms)]

    def ray(self) -> Any:
        """The dual ray of a part that `least` found to be empty, as a result; None if the solver has none."""
        _, found, rows = self.solver.getDualRay()
        return self._result(INFEASIBLE, np.zeros(0), rows, -(self.transposed @ rows)) if found else None

    def _result(self, status: int, x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Any:
        """As scipy's `linprog` gives it: multipliers of rows and of bounds, each with the sign of its side."""
        return SimpleNamespace(
            status=status,
            x=x,
            ineqlin=SimpleNamespace(marginals=np.minimum(rows[: self.inequalities], 0)),
            lower=SimpleNamespace(marginals=np.maximum(columns, 0)),
            upper=SimpleNamespace(marginals=np.minimum(columns, 0)),
        )

    def _run(self, splits: Sequence[Split], atoms: Sequence[int], seconds: float) -> int:
        self._move({(s.site, s.neuron): s.sign for s in splits}, tuple(atoms))
        solver = self.solver
        solver.setOptionValue("time_limit", solver.getRunTime() + max(seconds, 0.01))
        solver.run()
        return self.status.get(solver.getModelStatus(), LIMIT)

    def _move(self, phase: dict[tuple[int, int], int], atoms: tuple[int, ...]) -> None:
        """Change the bounds that differ."""
        columns: list[tuple[int, float, float]] = []
        rows: list[tuple[int, float, float]] = []
        free, none = (-np.inf, np.inf), (-np.inf, np.inf)
        for key in self.phase.keys() | phase.keys():
            sign = phase.get(key, 0)
            if sign == self.phase.get(key, 0):
                continue
            z, y, above_z, chord, side = self.place[key]
            if sign > 0:  # y = z ≥ 0
                columns += [(z, 0.0, np.inf), (y, *free)]
                rows += [(above_z, 0.0, 0.0), (chord, *none)]
            elif sign < 0:  # z ≤ 0 = y
                columns += [(z, -np.inf, 0.0), (y, 0.0, 0.0)]
                rows += [(above_z, *none), (chord, *none)]
            else:
                columns += [(z, *free), (y, 0.0, np.inf)]
                rows += [(above_z, -np.inf, 0.0), (chord, -np.inf, side)]
        if atoms != self.asked:
            rows += [(int(self.atoms[a]), *none) for a in set(self.asked) - set(atoms)]
            rows += [(int(self.atoms[a]), -np.inf, float(self.right[a])) for a in atoms]
        for changed, change in ((columns, self.solver.changeColsBounds), (rows, self.solver.changeRowsBounds)):
            if changed:
                which, low, high = (np.array(side) for side in zip(*changed, strict=True))
                change(len(changed), which.astype(np.int32), low, high)
        self.phase, self.asked = dict(phase), atoms


def keeps(network: Network) -> bool:
    """Whether every unit is a relu: then its splits at 0 are bounds of unknowns."""
    return all(unit.decides < 0 for unit in network.units)


def _silent() -> Any:
    """A solver that writes nothing: setting up callbacks prints a banner, and there are none."""
    import highspy

    class Silent(highspy.Highs):
        def enableCallbacks(self) -> None:
            pass

    return Silent()
