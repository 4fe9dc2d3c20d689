"""The work is the same, whoever does it; who does other work is found out."""

import numpy as np
import pytest

from chainrule.cli.bench.measure import Settings, agreement, measure
from chainrule.cli.bench.peers import OURS, PEERS, Peer
from chainrule.cli.bench.peers.ours import Loop
from chainrule.cli.bench.peers.with_numpy import ByHand
from chainrule.cli.bench.worker import CHECKED_STEPS, Worker, WorkerError, _Server
from chainrule.cli.bench.workloads import Workload

TINY, THREE = Workload("tiny", (4, 16, 2), 8), Workload("three classes", (5, 7, 9, 3), 6)


def first_steps(kind, workload=THREE):
    class Given(Peer):
        def load(self):
            return kind

    return _Server(Given("given", "", "", "numpy")).build(workload)


def run(workloads, names, **settings):
    peers = tuple(PEERS[name] for name in names)
    return list(measure(workloads, Settings(peers, rounds=2, seconds=1e-4, **settings), lambda text: None))


def test_every_installed_peer_does_the_same_work():
    results = run([TINY, THREE], [name for name in PEERS if name != "torch.compile"], fresh=False)
    for name, peer in ((name, peer) for result in results for name, peer in result["peers"].items()):
        if PEERS[name].missing():
            assert peer == {"skipped": f"{PEERS[name].needs} is not installed"}
            continue
        assert peer["agreement"]["agrees"], (name, peer)
        assert len(peer["losses"]) == 1 + CHECKED_STEPS
        assert len(peer["rounds"]) == 2
        assert min(peer["rounds"]) > 0
        assert ("note" in peer) == (name == "scikit-learn")


@pytest.mark.slow
def test_torch_compile_does_the_same_work():
    pytest.importorskip("torch")
    (result,) = run([TINY], [OURS, "torch.compile"], fresh=False)
    peer = result["peers"]["torch.compile"]
    assert "skipped" in peer or peer["agreement"]["agrees"]  # it needs a C++ compiler, and says so


def test_the_first_steps_are_numpy_s():
    ours, theirs = first_steps(Loop), first_steps(ByHand)
    np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-5)
    assert agreement(theirs, ours, 1e-5)["agrees"]


class NoUpdate(ByHand):
    """At so small a learning rate the losses alone hardly tell."""

    def _update(self):
        pass


class TwiceTheRate(ByHand):
    def _update(self):
        before = self.flat.copy()
        super()._update()
        self.flat += self.flat - before


class OneBatch(ByHand):
    def run(self, steps):
        return [super(OneBatch, self).run(1)[0] for _ in range(steps)]


class ForgetsALayer(ByHand):
    def _update(self):
        before = self.W[0].copy()
        super()._update()
        self.W[0][...] = before


@pytest.mark.parametrize("kind", [NoUpdate, TwiceTheRate, OneBatch, ForgetsALayer])
def test_other_work_is_found_out(kind):
    assert not agreement(first_steps(kind), first_steps(Loop), 1e-4)["agrees"]


def test_agreement_is_the_largest_loss_and_the_norm_of_the_movement():
    ours = {"losses": [2.0, 4.0], "moved": [np.array([3.0, 0.0]), np.array([0.0, 4.0])]}
    theirs = {"losses": [2.0, 4.4], "moved": [np.array([3.0, 0.5]), np.array([0.0, 4.0])]}
    assert agreement(theirs, ours, 1e-4) == {
        "loss": pytest.approx(0.1), "movement": pytest.approx(0.1), "agrees": False,
    }  # fmt: skip


def test_weights_of_another_shape_are_left_out():
    ours = {"losses": [1.0], "moved": [np.ones(3), np.ones((3, 2))]}
    theirs = {"losses": [1.0], "moved": [np.ones(3), np.zeros((3, 1))]}
    assert agreement(theirs, ours, 1e-4)["agrees"]


def test_fresh_processes_tell_first_calls_and_memory():
    (result,) = run([TINY], [OURS, "numpy"])
    ours = result["peers"][OURS]
    assert ours["first_call"] > 0
    assert ours["first_call_cached"] > 0
    assert ours["memory"] is None or ours["memory"] > 0
    assert "first_call_cached" not in result["peers"]["numpy"]
    assert result["peak_gflops"] > 0
    assert result["stream_gbytes"] > 0


def test_a_failing_peer_is_a_line_of_the_table_and_nothing_else():
    broken = Peer("broken", "with_numpy", "NoSuchClass", "numpy")
    (result,) = measure([TINY], Settings((PEERS[OURS], broken), rounds=1, seconds=1e-4, fresh=False), lambda text: None)
    assert (
        "module 'chainrule.cli.bench.peers.with_numpy' has no attribute 'NoSuchClass'"
        in result["peers"]["broken"]["skipped"]
    )
    assert result["peers"][OURS]["rounds"]


def test_a_process_that_ends_is_told(tmp_path):
    worker = Worker(PEERS["numpy"], 1, str(tmp_path))
    worker.ask("build", TINY)
    worker._process.kill()
    with pytest.raises(WorkerError, match=r"its process ended \(exit code -?\d+\)"):
        worker.ask("run", 1)
    worker.close()


def test_no_answer_in_time_is_told(tmp_path):
    worker = Worker(PEERS["numpy"], 1, str(tmp_path))
    with pytest.raises(WorkerError) as caught:
        worker.ask("build", TINY, limit=0.001)
    assert str(caught.value) == "no answer within 0 s"
    assert not worker._process.is_alive()


def test_ctrl_c_keeps_what_was_measured():
    def say(text):
        if "round 2" in text:
            raise KeyboardInterrupt

    (result,) = measure([TINY, THREE], Settings((PEERS[OURS],), rounds=3, seconds=1e-4, fresh=False), say)
    assert result["interrupted"]
    assert len(result["peers"][OURS]["rounds"]) == 1
