"""Searches spread over workers and written to journals: the same verdict and a whole proof, whatever is killed."""

import base64
import contextlib
import json
import os
import pickle
import random
import signal
import sys
import threading
import time
import tracemalloc
import zlib
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axiom_jax._errors import BackendUnavailable, SpecError
from axiom_jax.verification.property import Atom, Case, Property
from axiom_jax.verification.search import distributed, executors
from axiom_jax.verification.search.branch_and_bound import Search
from axiom_jax.verification.search.distributed import Distributed, Staff, scaled
from axiom_jax.verification.search.frontier import ELSEWHERE, cut, graft, grown, open_nodes, parents_of
from axiom_jax.verification.search.margins import Subject, pose
from axiom_jax.verification.search.portfolio import Portfolio
from axiom_jax.verification.search.search_journal import SearchJournal, decoded, encoded
from axiom_jax.verification.search.tree import OPEN, Multipliers, Tree
from axiom_jax.verification.search.worker import Report, Task, Worker


def teeth(params, x):
    """Two rows of teeth, one across the other: never negative, zero along many lines, and hard to bound by lines."""
    starts, slopes, directions = params
    return sum(jax.nn.relu(x[0] @ direction - starts) @ slopes for direction in directions)[None]


def question(threshold, count=9):
    """Do rows of so many teeth stay above a threshold?"""
    slopes = np.where(np.arange(count) % 2 == 1, -2.0, 2.0)
    slopes[0] = 1.0
    parts = np.linspace(-1.6, 1.6, count), slopes, [[1, 0.6], [1, -0.5]]
    params = tuple(np.asarray(part, np.float32) for part in parts)
    subject = Subject(teeth, params, (jax.ShapeDtypeStruct((1, 2), np.float32),), "teeth")
    atom = Atom(((0, Fraction(1)),), Fraction(threshold))
    return pose(subject, Property((Case((Fraction(-1),) * 2, (Fraction(1),) * 2, ((atom,),)),), "y_0 is large"))


def narrow(question):
    """A search of two boxes a call, so that a small question has many calls."""
    return Portfolio(question, [("narrow", lambda: Search(question, width=2))])


HOLDS, FAILS = -0.02, 0.02


def judge_of(question):
    worker = Worker(question, narrow)
    return lambda case, point: worker.unsafe(case, point, [])


def whole(search, question):
    """Every leaf of a closed tree is closed for a reason, and the leaves cover the region."""
    tree, volume = search.tree, 0.0
    assert ELSEWHERE not in tree.choice and not open_nodes(tree, question.lo, question.hi)
    boxes = tree.boxes(0, question.lo[0], question.hi[0])
    for node, _, choice, _ in tree.preorder(0):
        volume += np.prod(boxes[node][1] - boxes[node][0]) if choice is not None else 0.0
    return volume == pytest.approx(np.prod(question.hi[0] - question.lo[0]), rel=1e-9)


# trees


@st.composite
def trees(draw):
    """Trees of halvings, cuts, splits and closed leaves, grown at random."""
    tree = Tree(draw(st.integers(1, 3)))
    for _ in range(draw(st.integers(0, 12))):
        left = [n for n in range(len(tree.split)) if tree.child[n] == OPEN and tree.choice[n] is None]
        if not left:
            break
        node, kind = draw(st.sampled_from(left)), draw(st.sampled_from("hpck"))
        if kind == "k":
            tree.cut(np.array([node]), np.array([draw(st.integers(0, 3))]), np.array([draw(st.floats(0, 1))]))
        elif kind == "h":
            tree.halve(np.array([node]), np.array([draw(st.integers(0, 3))]))
        elif kind == "p":
            tree.part([node], [draw(st.integers(0, 2))], [draw(st.integers(0, 9))], [draw(st.floats(-1, 1))])
        else:
            tree.close(node, (draw(st.integers(0, 4)),))
    return tree


def described(tree):
    return [grown(tree, root) for root in range(tree.cases)]


@given(trees())
def test_what_grew_can_be_grafted_and_written_down(tree):
    again, parents = Tree(tree.cases), {}
    for root, growth in enumerate(described(tree)):
        left = graft(again, root, decoded(json.loads(json.dumps(encoded(growth)))), parents)
        assert all(again.child[node] == OPEN and again.choice[node] is None for node in left)
    assert described(again) == described(tree) and parents == parents_of(again)


@given(trees(), st.data())
def test_a_piece_has_the_same_box_and_splits_as_in_the_whole_tree(tree, data):
    lo, hi = np.zeros((tree.cases, 4)), np.ones((tree.cases, 4))
    left = {x.node: x for x in open_nodes(tree, lo, hi)}
    if not left:
        return
    nodes = data.draw(st.lists(st.sampled_from(sorted(left)), min_size=1, unique=True))
    small, numbers = cut(tree, parents_of(tree), nodes)
    pieces = {x.node: x for x in open_nodes(small, lo, hi)}
    assert sorted(pieces) == sorted(numbers)
    for node, number in zip(nodes, numbers, strict=True):
        ours, theirs = left[node], pieces[number]
        assert (ours.root, ours.splits) == (theirs.root, theirs.splits)
        assert np.array_equal(ours.lo, theirs.lo) and np.array_equal(ours.hi, theirs.hi)


def test_only_subtrees_are_grafted_and_only_under_open_nodes():
    for growth in ([], [(), ()], [(0,), ()], [(0,), (), (), ()]):
        with pytest.raises(ValueError):
            graft(Tree(1), 0, growth, {})
    tree = Tree(1)
    tree.close(0, (0,))
    with pytest.raises(ValueError, match="not open"):
        graft(tree, 0, [()], {})


# journals


def test_a_journal_keeps_a_tree_with_its_multipliers(tmp_path):
    asked, rng = question(HOLDS), np.random.default_rng(0)
    journal, tree, parents = SearchJournal(tmp_path / "j", asked), Tree(1), {}
    assert not journal.restore("s", tree, parents)
    multipliers = Multipliers({0: rng.normal(size=(1, 3))}, rng.normal(size=(1, 1)))
    first = [(0,), (1, 4, 0.1), (None, (2,), multipliers), (), ()]
    left = graft(tree, 0, first, parents)
    journal.note("s", [(0, first, left)])
    second = [(0,), (), (None, (0,), None)]
    journal.note("s", [(left[1], second, graft(tree, left[1], second, parents)), (left[0], [()], [left[0]])])
    journal.close()

    journal, again, parents = SearchJournal(tmp_path / "j", asked), Tree(1), {}
    assert journal.restore("s", again, parents) and parents == parents_of(again)
    strip = lambda growth: [entry[:2] for entry in growth]
    assert strip(grown(again, 0)) == strip(grown(tree, 0))
    (ours,), (theirs,) = tree.multipliers.values(), again.multipliers.values()
    assert np.array_equal(ours.slopes[0], theirs.slopes[0]) and np.array_equal(ours.betas, theirs.betas)
    journal.close()


def test_a_torn_or_damaged_journal_loses_lines_but_never_invents(tmp_path):
    asked, path = question(HOLDS), tmp_path / "j"
    journal, tree, parents = SearchJournal(path, asked), Tree(1), {}
    journal.restore("s", tree, parents)
    node, states = 0, [grown(tree, 0)]
    for choice in range(3):
        growth = [(choice % 2,), (None, (choice,), None), ()]
        left = graft(tree, node, growth, parents)
        journal.note("s", [(node, growth, left)])
        node = left[0]
        states.append(grown(tree, 0))
    journal.close()
    content = path.read_bytes()
    head = content.index(b"\n") + 1

    def state():
        journal, again = SearchJournal(path, asked), Tree(1)
        journal.restore("s", again, {})
        journal.close()
        return grown(again, 0)

    for cut_at in range(0, len(content), 7):
        path.write_bytes(content[:cut_at])
        whole_lines = max(content[:cut_at].count(b"\n") - 1, 0)
        assert state() == states[whole_lines] and state() == states[whole_lines]  # and once more after the repair
    for place in range(head, len(content), 11):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert state() == states[content[head:place].count(b"\n")]
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))  # a line in the middle is gone
    assert state() == states[0]


def test_a_journal_of_something_else_is_refused(tmp_path):
    SearchJournal(tmp_path / "j", question(HOLDS)).close()
    with pytest.raises(SpecError, match="something else"):
        SearchJournal(tmp_path / "j", question(HOLDS - 1))
    (tmp_path / "text").write_text("my notes\n")
    with pytest.raises(SpecError, match="something else"):
        SearchJournal(tmp_path / "text", question(HOLDS))
    assert (tmp_path / "text").read_text() == "my notes\n"
    with pytest.raises(SpecError, match="cannot be used"):
        SearchJournal(tmp_path / "none" / "j", question(HOLDS))
    held = SearchJournal(tmp_path / "j", question(HOLDS))
    with pytest.raises(SpecError, match="in use"):
        SearchJournal(tmp_path / "j", question(HOLDS))
    held.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        {"found": {"case": 0, "point": ["north"]}}, {"found": []}, {"search": "a", "grown": [[0, [[None, [0], 7]]]]},
        {"search": "a", "grown": [[0, [[None, [0], {"slopes": {"dtype": "<f4", "shape": [2], "data": "AAAA"}}]]]]},
        {"search": "a", "grown": [[7, [[0], [], []]]]}, {"search": "a", "grown": [[0, [[0], []]]]},
    ],
)  # fmt: skip
def test_lines_that_no_search_writes_are_told_of_and_kept(tmp_path, body):
    """Their digests are right, so nothing was torn: somebody wrote them."""
    asked, path = question(0.5), tmp_path / "j"
    with contextlib.closing(SearchJournal(path, asked)) as journal:
        journal._append(body)
    kept = path.read_bytes()
    with pytest.raises(SpecError, match="damaged"), contextlib.closing(SearchJournal(path, asked)) as journal:
        journal.restore("a", Tree(len(asked.lo)), {})
    assert path.read_bytes() == kept


def test_an_interrupted_search_goes_on_where_it_was(tmp_path):
    asked = question(HOLDS)
    judge, boxes = judge_of(asked), []

    def interrupt(search):
        if search.boxes >= 20:
            raise KeyboardInterrupt

    for stop in (interrupt, None):
        with scaled(asked, narrow, journal=tmp_path / "j") as search:
            try:
                outcome = search.run(time.monotonic() + 60, judge, stop)
            except KeyboardInterrupt:
                outcome = "interrupted"
            boxes.append(search.boxes)
    assert outcome == "closed" and whole(search.ahead, asked)
    with scaled(asked, narrow) as search:
        search.run(time.monotonic() + 60, judge)
    assert boxes[0] >= 20 and sum(boxes) <= search.boxes + 16  # nothing but first looks and the batch in hand twice
    with scaled(asked, narrow, journal=tmp_path / "j") as search:
        assert search.run(time.monotonic() + 60, judge) == "closed" and search.boxes == 0


def test_a_counterexample_is_kept_but_judged_again(tmp_path):
    asked = question(FAILS)
    with scaled(asked, narrow, journal=tmp_path / "j") as search:
        assert search.run(time.monotonic() + 60, judge_of(asked)) == "unsafe"
    for verdict, expected in ((True, {"unsafe"}), (False, {"time", "stuck"})):
        with scaled(asked, narrow, journal=tmp_path / "j") as search:
            assert search.run(time.monotonic() + 0.2, lambda case, point, v=verdict: v) in expected


# workers


def spread(asked, crew):
    """A search that begins with its workers, which are given."""
    staff = Staff(asked, narrow, 2, "local")
    staff.start, staff.crew, staff.alone = None, crew, distributed.HEAD
    return Distributed("narrow", Search(asked, width=2), staff)


@pytest.mark.parametrize(("threshold", "outcome"), [(HOLDS, "closed"), (FAILS, "unsafe")])
@pytest.mark.slow
def test_threads_with_a_device_each_find_the_same_verdict(threshold, outcome, monkeypatch):
    monkeypatch.setattr(distributed, "SHORT", 0.02)
    asked = question(threshold)
    crew = executors.Devices(asked, narrow, 2)
    search = spread(asked, crew)
    assert search.run(time.monotonic() + 60, judge_of(asked)) == outcome
    crew.close()
    if outcome == "closed":
        assert whole(search, asked) and search.worst > 0 and search.open == 0
        assert search.proof()["kind"] in ("tree", "splits")


class Failing:
    """A crew whose workers lose or do their tasks, at random but always again the same way."""

    reason = ""

    def __init__(self, asked):
        self.worker, self.random, self.tasks = Worker(asked, narrow), random.Random(0), {}

    def idle(self):
        return [w for w in (0, 1) if w not in self.tasks]

    def alive(self):
        return True

    def give(self, worker, task):
        self.tasks[worker] = task

    def wait(self, seconds):
        ended = []
        for worker, task in self.tasks.items():
            lost = self.random.random() < 0.4
            ended.append((worker, None if lost else self.worker.work(Task(task.search, task.tree, task.nodes, 0.01))))
        self.tasks = {}
        return ended

    def close(self):
        pass


def test_lost_tasks_are_given_again():
    asked = question(HOLDS)
    search = spread(asked, Failing(asked))
    assert search.run(time.monotonic() + 60, judge_of(asked)) == "closed" and whole(search, asked)


def test_errors_in_workers_bring_the_search_back_here():
    class Broken(Failing):
        def wait(self, seconds):
            ended, self.tasks = [(w, Report("failed", [], reason="it broke")) for w in self.tasks], {}
            return ended

    asked = question(HOLDS)
    search = spread(asked, Broken(asked))
    with pytest.warns(UserWarning, match="without workers.*it broke"):
        assert search.run(time.monotonic() + 60, judge_of(asked)) == "closed" and whole(search, asked)


class Echo:
    """A worker that says who it is, and dies or breaks when told to."""

    def begun(self):
        return self

    def work(self, task):
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        print("what a library prints is not for the pipe", flush=True)
        return os.getpid(), task, os.environ["NPROC"]


def heard(crew, count):
    """Reports, as many as asked for."""
    found, deadline = [], time.monotonic() + 100
    while len(found) < count:
        assert time.monotonic() < deadline and crew.alive()
        found += crew.wait(0.5)
    return found


def all_up(crew, count):
    deadline = time.monotonic() + 100
    while len(crew.idle()) < count:
        assert time.monotonic() < deadline and crew.alive()
        crew.wait(0.2)
    return crew.idle()


@pytest.mark.slow
def test_processes_that_die_are_started_again():
    crew = executors.Processes(pickle.dumps(Echo()), 2)
    try:
        assert all_up(crew, 2) == [0, 1]
        crew.give(0, "die")
        crew.give(1, "live")
        reports = dict(heard(crew, 2))
        assert reports[0] is None and reports[1][1:] == ("live", str(executors.share(2)))
        assert all_up(crew, 2) == [0, 1]
        crew.give(0, "again")
        time.sleep(0.5)
        assert crew.idle() == [1]  # its report waits to be taken: it gets no other task before
        [(worker, (first, _, _))] = heard(crew, 1)
        assert worker == 0 and first == crew.processes[0].pid
    finally:
        crew.close()
    assert not crew.alive() and crew.idle() == []


@pytest.mark.campaign
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_ten_kills_change_nothing(executor, monkeypatch):
    """Two workers, one of them killed at random ten times while they work: the same verdict, a whole proof."""
    if executor == "ray":
        pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setattr(distributed, "SLICE", 0.05)
    monkeypatch.setattr(distributed, "SHORT", 0.05)
    monkeypatch.setattr(distributed, "PIECES", 1)
    asked, chance, kills = question(HOLDS / 40, 17), random.Random(0), []
    crew = executors.crew(asked, narrow, 2, executor)
    try:
        all_up(crew, 2)
        search = spread(asked, crew)

        def kill(search):
            if len(kills) < 10 and len(crew.idle()) + len(search.staff.out) == 2:
                victim = chance.randrange(2)
                crew.end(victim)
                kills.append(victim)
                while crew.alive() and victim not in crew.idle():
                    search.staff.hear(0.2)
                crew.deaths[victim] = 0

        assert search.run(time.monotonic() + 500, judge_of(asked), kill) == "closed"
        assert whole(search, asked) and len(kills) == 10, kills
    finally:
        crew.close()


def test_a_journal_unpacks_no_more_of_an_array_than_its_shape():
    lines = json.loads(json.dumps(encoded([(None, (0,), Multipliers({0: np.ones((2, 3))}, np.ones((1, 0))))])))
    found = decoded(lines)[0][2]
    assert np.array_equal(found.slopes[0], np.ones((2, 3))) and found.betas.shape == (1, 0) and found.weights is None
    lines[0][2]["slopes"]["map"][0][1]["data"] = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            decoded(lines)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_models_travel_or_say_why_not():
    asked = question(HOLDS)
    worker = executors.unpacked(executors.packed(asked, narrow))
    tree = Tree(1)
    report = worker.work(Task("narrow", tree, [0], 60.0))
    assert report.outcome == "closed" and report.boxes > 2 and report.worst > 0
    assert worker.work(Task("another", Tree(1), [0], 1.0)).outcome == "failed"
    handle = threading.Lock()
    locked = Subject(lambda _, x: (handle, x[0])[1], (), (jax.ShapeDtypeStruct((1, 2), np.float32),))
    with pytest.raises(SpecError, match="cannot travel"):
        executors.packed(pose(locked, asked.property), narrow)


def test_executors_that_are_not_there(monkeypatch):
    asked = question(HOLDS)
    with pytest.raises(SpecError, match="no such executor"):
        executors.crew(asked, narrow, 2, "slurm")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailable, match="not installed"):
        executors.crew(asked, narrow, 2, "ray")
