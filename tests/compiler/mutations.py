"""Faults planted in schedule, plan, code generation and runtime, and for each the test that must notice.

`python -m tests.compiler.mutations` plants one after the other in a copy of the sources and runs the tests named beside it:
a fault that no test notices is printed, and ends the script with 1. `--find` tells which tests of the compiler notice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPILER = "src/chainrule/compiler"
EVERYWHERE = (
    "schedule", "plan", "test_canaries.py", "test_fuzz.py", "test_state.py", "codegen", "passes", "test_gradients.py",
    "test_several_threads.py", "runtime", "frontend",
)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One fault: in `file`, `old` (which stands there once) becomes `new`; `test` below tests/compiler fails."""

    name: str
    file: str
    old: str
    new: str
    test: str

    def plant(self, root: Path) -> None:
        path = root / COMPILER / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise SystemExit(f"{self.name}: {self.old!r} stands {text.count(self.old)} times in {self.file}, must be 1")
        path.write_text(text.replace(self.old, self.new))


MUTATIONS = [
    Mutation("bfloat16 is cut off, not rounded", "codegen/scalars.py",
        'quiet, e.binary("add", bits, half))', "quiet, bits)", "codegen/test_bfloat16.py::test_native_rounding_has_the_same_bits"),
    Mutation("numbers that lie in bfloat16 are kept as float32, too", "schedule/materialize.py",
        "kept.add(node.inputs[0] if _widens(node) and node.inputs[0] not in nested else node)", "kept.add(node)", "codegen/test_bfloat16.py::test_a_value_that_was_rounded_is_kept_in_two_bytes"),
    Mutation("what many arrays say is computed again like what few do", "schedule/materialize.py",
        "return found if 0 < len(found) <= FEW else None", "return found", "schedule/test_materialize.py::test_what_few_arrays_say_cheaply_is_computed_again"),
    Mutation("a rounding to bfloat16 is taken for a cast there and back", "passes/simplify.py",
        'return inputs[0] if inputs[0].dtype == params["dtype"] else None',
        'x = inputs[0].inputs[0] if inputs[0].op is ew.cast else inputs[0]\n    return x if x.dtype == params["dtype"] else None', "codegen/test_bfloat16.py::test_a_rounding_on_the_way_is_no_pair_of_casts_that_cancel"),
    Mutation("panels are taken for whole vectors where these lie along the terms", "plan/tiling.py",
        "        if self.dot:  # vectors", "        if self.dot and not self.dot:  # vectors", "codegen/matmul/test_contraction.py::test_threads_divide_a_product_where_its_tiles_and_panels_begin"),
    Mutation("an edge of the order is dropped", "schedule/dependency.py",
        "bits |= self._before[other] | 1 << other", "bits |= 1 << other", "schedule/test_dependency.py::test_after_is_reachability_whatever_the_order_of_additions"),
    Mutation("a value at hand is taken for any element", "schedule/expression.py",
        "if self.places.get(node, at) != at:", "if False:", "schedule/test_fusion.py::test_a_value_at_hand_is_that_of_its_own_element"),
    Mutation("a merged kernel forgets who waits for it", "schedule/dependency.py",
        "            self.put(user, [number])", "            pass", "schedule/test_dependency.py::test_who_waits_for_a_part_waits_for_the_whole"),
    Mutation("a live range is one kernel short", "schedule/memory.py",
        "lives[node] = (lives.get(node, (position,))[0], position)",
        "lives[node] = (lives.get(node, (position,))[0], max(position - 1, lives.get(node, (position,))[0]))", "schedule/test_materialize.py::test_products_that_are_summed_up_are_added_as_they_come"),
    Mutation("state that is copied at the end is not kept till then", "schedule/memory.py",
        "(lives[node][0], len(kernels))", "(lives[node][0], lives[node][1])", "test_state.py::test_random_updates_of_several_states"),
    Mutation("a buffer overlaps the next by a line", "schedule/memory.py",
        "offsets[node] = offset = int(reached[fits[0] if len(fits) else -1])",
        "offsets[node] = offset = max(0, int(reached[fits[0] if len(fits) else -1]) - LINE)", "schedule/test_materialize.py::test_products_that_are_summed_up_are_added_as_they_come"),
    Mutation("state is written in place under a reader that comes later", "schedule/memory.py",
        "return self._put_before([*others, *self.checks], writers)", "return self._put_before(self.checks, writers)", "test_state.py::test_two_states_are_swapped"),
    Mutation("state is written in place though neighbours are read", "schedule/memory.py",
        "return all(load.index == index and not load.guards for load in kernel.loads() if load.node is old)",
        "return True", "test_state.py::test_random_updates_of_several_states"),
    Mutation("state is written before indices are checked", "schedule/memory.py",
        "return self._put_before([*others, *self.checks], writers)", "return self._put_before(others, writers)",
        "test_errors.py::test_a_check_that_depends_on_new_state_still_comes_before_it"),
    Mutation("a barrier is dropped between a write and a read", "plan/work_sharing.py",
        "clash(reads, divided, written) or clash(writes", "clash(writes", "plan/test_work_sharing.py::test_no_thread_touches_what_another_wrote_since_they_met"),
    Mutation("a barrier is dropped between a read and an overwrite", "plan/work_sharing.py",
        "or clash(writes, divided, read)", "", "plan/test_work_sharing.py::test_no_thread_touches_what_another_wrote_since_they_met"),
    Mutation("what was touched before a barrier that others need is forgotten", "plan/work_sharing.py",
        "                if entry not in known:\n                    known.append(entry)", "                known[:] = [entry]", "plan/test_work_sharing.py::test_all_that_was_read_since_they_met_counts_and_not_only_the_last"),
    Mutation("accesses to other parts of an axis pass for one's own", "plan/access.py",
        "self.lane is not None and self.lane == other.lane and self.start == other.start", "self.lane is not None", "plan/test_work_sharing.py::test_no_thread_touches_what_another_wrote_since_they_met"),
    Mutation("a read that reaches beside its own row is overlooked", "plan/access.py",
        "if low + offset < 0 or high + offset >= stride:", "if low + offset < 0:", "plan/test_work_sharing.py::test_threads_meet_where_they_read_beside_their_own"),
    Mutation("the last unit of a cut ends early", "plan/cut.py",
        "return self.size  # the last may also be longer", "return min(self.size, unit * self.rows)", "codegen/matmul/test_contraction.py::test_the_last_part_of_an_axis_may_be_longer"),
    Mutation("parts of threads overlap by a unit", "plan/cut.py",
        "self.start(self.units * t // threads) for t", "self.start(-(-self.units * t // threads) + (0 < t < threads)) for t", "plan/test_work_sharing.py::test_a_large_one_is"),
    Mutation("positions that are data are shared among threads", "plan/partition.py",
        "        return []  # positions are data: two threads might write the same one", "        pass", "plan/test_work_sharing.py::test_no_two_threads_add_at_places_that_are_data"),
    Mutation("scratch memory is one element short for each thread", "plan/product.py",
        "sum(tiling.scratch_parts(spec, chosen)) * BYTES", "max(0, sum(tiling.scratch_parts(spec, chosen)) - 64) * BYTES", "test_canaries.py::test_products"),
    Mutation("a newcomer is fused behind what overwrites its input", "schedule/schedule.py",
        "            if place is not None and self._in_time(newcomer, number):", "            if place is not None:", "plan/test_arguments.py::test_the_steps_of_a_recurrence_are_compiled_once"),
    Mutation("stores that only a later kernel reads are left out", "schedule/schedule.py",
        "if self.home.get(node) != number or node in kernel.first)", "if self.home.get(node) == number or node in kernel.first)", "test_golden.py::test_a_two_layer_network_prints_as_before"),
    Mutation("code of another source passes for this one's", "runtime/native.py",
        "{self.version} {writers()}", "{self.version}", "runtime/test_cache.py::test_the_key_names_cpu_features_and_llvm"),
    Mutation("code of another CPU passes for this one's", "runtime/native.py",
        "{self.triple} {self.cpu} {self.features}", "{self.triple}", "runtime/test_native.py::test_another_cpu_or_version_has_entries_of_its_own"),
    Mutation("a step of many kernels takes all of LLVM's effort", "program.py",
        "return 0 if len(self.plan.kernels) > LONG or self.work_sharing.total > LENGTHY else 1", "return 1", "runtime/test_native.py::test_a_step_of_many_kernels_or_much_work_is_compiled_without_effort_to_the_same_bits"),
    Mutation("a node that moves into a kernel hides what it reads", "schedule/fusion.py",
        "loads = [part for part in parts if isinstance(part, Load)]", "loads: list[Load] = []", "schedule/test_materialize.py::test_products_that_are_summed_up_are_added_as_they_come"),
    Mutation("the last step of a loop does not move on its pointers", "codegen/entry.py",
        "%%left = icmp slt i64 %%j, %%moving", "%%left = icmp slt i64 %%j, 0", "frontend/test_loop.py::test_by_turns_two_loops_move_one_state_on"),
    Mutation("a check that fails does not end the step", "codegen/entry.py",
        "%%failed = icmp ne i64 %%status, 0\n  br i1 %%failed, label %%stop, label %%move", "%%failed = icmp ne i64 %%status, 0\n  br label %%move", "frontend/test_loop.py::test_an_index_error_names_the_step_of_the_whole_loop"),
]  # fmt: skip

# Loops as they are decided and written.
MUTATIONS += [
    Mutation("what is left of a loop begins one late", "plan/nests.py",
        "For(along, body, whole * lanes, count, Way.VECTOR", "For(along, body, whole * lanes + 1, count, Way.VECTOR",
        "schedule/test_verify.py::test_what_is_decided_passes"),
    Mutation("loops become one where an index does not allow it", "plan/nests.py",
        "near is not None and far == near * steps", "near is not None",
        "codegen/test_lower.py::test_axes_become_one_loop_where_every_index_allows_it"),
    Mutation("loops that threads share together are run through in another order", "plan/nests.py",
        "for var in reversed(share.loops):", "for var in share.loops:",
        "plan/test_work_sharing.py::test_the_steps_of_attention_share_their_heads_together_and_need_no_barrier"),
    Mutation("a state is stored before all is read", "plan/nests.py",
        "return (*(Let(store.value) for store in stores), *stores) if len(stores) > 1 else tuple(stores)", "return tuple(stores)",
        "test_state.py::test_three_states_move_round_with_arithmetic"),
    Mutation("sums down columns add in another order than along rows", "plan/nests.py",
        "dealt = 1 if arg else lanes_of_sum(core)", "dealt = 1",
        "codegen/test_rows.py::test_a_sum_has_the_same_bits_however_its_terms_lie_in_memory"),
    Mutation("what is left of a sum comes first", "plan/rows.py",
        "for begin, end in parts", "for begin, end in reversed(parts)", "plan/test_summation.py::test_sums"),
    Mutation("a short row is stored before all of it is read", "plan/rows.py",
        "for kind in (lambda store: Let(store.value), lambda store: store):", "for kind in (lambda store: store,):",
        "codegen/test_rows.py::test_a_row_that_replaces_another_state_is_written_after_all_that_is_read"),
    Mutation("a part of a long row is stored before all of it is read", "plan/rows.py",
        "(*saved, *(Let(store.value) for store in whole), *whole)", "(*saved, *whole)",
        "codegen/test_rows.py::test_a_row_that_replaces_another_state_is_written_after_all_that_is_read"),
    Mutation("what a later loop recalls is not kept", "plan/rows.py",
        "(*saved, Combine(stage), *kept)", "(*saved, Combine(stage))", "schedule/test_verify.py::test_what_is_decided_passes"),
    Mutation("two threads do what is left of a loop", "codegen/nest.py",
        '"sgt", LAST,', '"sge", LAST,', "codegen/test_rows.py::test_what_is_left_of_a_shared_loop_is_done_once"),
    Mutation("whole turns of a shared loop run on into what is left", "codegen/nest.py",
        "LAST if loop.lanes == 1 else e.call", "LAST if loop.lanes >= 1 else e.call",
        "codegen/test_rows.py::test_what_is_left_of_a_shared_loop_is_done_once"),
    Mutation("all terms go to one of several sums", "codegen/nest.py",
        "            self.sum = number\n", "            self.sum = 0\n",
        "codegen/test_rows.py::test_a_sum_has_the_same_bits_however_its_terms_lie_in_memory"),
    Mutation("lanes that do not exist are added", "codegen/reductions.py",
        "            value = body.e.select(body.mask, value, neutral)\n", "            pass\n",
        "codegen/test_rows.py::test_values_and_gradients_are_those_of_numpy"),
    Mutation("another's elements of loops that are shared together pass for one's own", "plan/access.py",
        "        if index.terms.get(var) != turn:\n            return None\n", "",
        "plan/test_work_sharing.py::test_threads_wait_for_heads_that_another_has"),
    Mutation("the order of a product follows where a factor lies", "schedule/products.py",
        "along = in_lanes(node.shape[-1], node.inputs[0].shape[-1])",
        "along = in_lanes(node.shape[-1], node.inputs[0].shape[-1]) and a.index.coefficient(k) == 1",
        "test_order_of_products.py::test_wherever_the_factors_lie"),
    Mutation("the order of a product follows the registers", "plan/tiling.py",
        "lanes = spec.lanes if dot else", "lanes = min(spec.lanes, whole) if dot else",
        "test_order_of_products.py::test_whatever_the_registers_and_threads"),
    Mutation("the order of a product follows its rows", "schedule/products.py",
        "along = in_lanes(node.shape[-1], node.inputs[0].shape[-1])",
        "along = in_lanes(min(node.shape[-2:]), node.inputs[0].shape[-1])",
        "test_order_of_products.py::test_what_is_predicted_of_a_row_does_not_depend_on_the_rows_beside_it"),
    Mutation("the order of a product follows who reads it transposed", "passes/simplify.py",
        "and once and _sums_alike(x):", "and once:",
        "test_order_of_products.py::test_a_product_that_is_read_transposed_adds_as_it_does_by_itself"),
    Mutation("halves of a batch are added as they come", "codegen/halves.py",
        'self._told(part, "slot"), self._told(part, "joins")', 'self._told(part, "slot"), self._number(0)',
        "test_order_of_products.py::test_the_halves_of_a_batch_add_up_as_they_do_within_it"),
    Mutation("the total of a block of rows waits where those of its leaves do", "codegen/halves.py",
        "return self._places(slot, some and ", "return self._places(slot, None and ",
        "codegen/matmul/test_contraction.py::test_blocks_of_rows_that_are_added_up_in_halves_change_no_bit"),
    Mutation("leaves follow the registers", "plan/rows.py",
        "    if along == halved:\n", "    if along == halved and lanes == 1:\n",
        "schedule/test_verify.py::test_what_is_decided_passes"),
    Mutation("only one half of a product has room to wait for the other", "plan/tiling.py",
        "(places(blocks_of(spec, chosen)) if spec.halved else 1)", "1",
        "codegen/matmul/test_contraction.py::test_blocks_of_rows_that_are_added_up_in_halves_change_no_bit"),
    Mutation("a sum over rows is taken for one along them", "schedule/schedule.py",
        "core.halved = core.dims[0]", "core.halved = None",
        "test_order_of_products.py::test_the_halves_of_a_batch_add_up_as_they_do_within_it"),
    Mutation("a multiply-add is rounded twice on a CPU without one", "codegen/emit.py",
        "if self.target.fuses(scalar_of(a.type)) else _fused(self, a, b, c)",
        'if self.target.fuses(scalar_of(a.type)) else self.binary("fadd", self.binary("fmul", a, b), c)',
        "test_order_of_products.py::test_whatever_the_registers_and_threads"),
    Mutation("the elements of a window are added from the last to the first", "codegen/matmul/broadcast_tile.py",
        "            for i in range(axis.size):\n                before = step(", "            for i in reversed(range(axis.size)):\n                before = step(",
        "test_convolution.py::test_its_sums_are_those_of_a_product_with_the_windows_copied"),
    Mutation("the last line of a window is left out", "codegen/matmul/broadcast_tile.py",
        "with e.fold(axis.size, before) as state:", "with e.fold(axis.size - 1, before) as state:",
        "test_convolution.py::test_its_sums_are_those_of_a_product_with_the_windows_copied"),
    Mutation("work on a permutation is done in its order and not before it", "passes/convolution.py",
        'return make(shaping.permute, (whole,), {"dims": back})', 'return make(shaping.permute, (whole,), {"dims": dims})',
        "test_convolution.py::test_no_kernel_turns_what_one_convolution_gives_the_next"),
    Mutation("the phases of a line come in the other direction", "passes/convolution.py",
        'w = make(shaping.flip, (w,), {"dims": phases})', "pass",
        "test_convolution.py::test_zeros_between_elements_are_not_multiplied"),
    Mutation("lines of a convolution begin at their first phase", "passes/convolution.py",
        "start = (0, 0, *(a.before for a in axes), 0)", "start, stop = (0,) * len(stop), (*kept, *count, out)",
        "test_convolution.py::test_zeros_between_elements_are_not_multiplied"),
    Mutation("some of a convolution's places are taken for their neighbours", "passes/convolution.py",
        "stride * each for stride, each in zip(params", "stride for stride, each in zip(params",
        "test_convolution.py::test_the_gradients_of_a_transposed_convolution_have_no_zeros_either"),
    Mutation("sums begin anew with each block of images", "codegen/matmul/contraction.py",
        "return [e.phi((zero, before), (value, load)) for zero, value in zip(zeros, saved, strict=True)]", "return zeros",
        "test_convolution.py::test_a_weights_gradient_goes_over_a_few_images_at_a_time"),
    Mutation("a factor's axis inside another is taken for the outer one", "plan/product.py",
        "_stride(a, var), _stride(b, var)) for var in core.inner", "_stride(a, var), _stride(b, core.k)) for var in core.inner",
        "test_convolution.py::test_its_sums_are_those_of_a_product_with_the_windows_copied"),
    Mutation("a nest takes the fold of another row for its own", "schedule/nesting.py",
        "if node in self.results and expr(ravel(index, node.shape)) != self.nest.row:", "if False:",
        "schedule/test_nesting.py::test_forwards_alone"),
    Mutation("a nest takes some rows of a value for all", "schedule/regions.py",
        "if extents == region.shape[-2:] and index", "if index",
        "schedule/test_nesting.py::test_a_part_of_a_value_is_not_the_whole"),
    Mutation("a nest takes one value of a batch for each", "schedule/regions.py",
        "(*broadcast(batch, factor.shape[:-2]), first, second)", "(*batch[len(batch) - len(factor.shape) + 2 :], first, second)",
        "schedule/test_nesting.py::test_a_product_of_a_view_is_what_it_is_apart"),
    Mutation("a product in a nest reads a fold that comes after it", "schedule/nesting.py",
        "if any(isinstance(part, Load) and part.node in self.made() for part in walk([value])):", "if False:",
        "schedule/test_nesting.py::test_a_product_of_a_fold_waits_for_it"),
    Mutation("rows that are left over are in no nest", "schedule/nesting.py",
        "    if left:\n        yield whole * rows", "    if False:\n        yield whole * rows",
        "schedule/test_nesting.py::test_a_nest_has_the_bits_of_the_kernels_it_replaces"),
    Mutation("a nest runs before what a product in it reads", "schedule/schedule.py",
        "            if source not in self.kept or source in self.nested:\n", "            if source not in self.kept:\n",
        "schedule/test_nesting.py::test_a_nest_has_the_bits_of_the_kernels_it_replaces"),
    Mutation("sums that are carried from block to block begin anew in each", "schedule/nesting.py",
        "self.COLUMN, k, self.ROW, at, self.begin", "self.COLUMN, k, self.ROW, at, None",
        "schedule/test_nesting.py::test_a_nest_has_the_bits_of_the_kernels_it_replaces"),
    Mutation("threads share the blocks along which sums are carried", "plan/partition.py",
        "for loop in independent(nest) if loop.var not in carried]", "for loop in independent(nest)]",
        "schedule/test_nesting.py::test_a_nest_has_the_bits_of_the_kernels_it_replaces"),
    Mutation("rooms lie on each other", "plan/nests.py",
        "        end = rooms[-1].end\n", "", "schedule/test_nesting.py::test_a_nest_has_the_bits_of_the_kernels_it_replaces"),
    Mutation("a room lies where a product packs its factors", "plan/nests.py",
        "rooms, end = [], Nest(body).scratch", "rooms, end = [], 0", "schedule/test_nesting.py::test_a_nest_has_the_bits_of_the_kernels_it_replaces"),
]  # fmt: skip


def noticed(root: Path, mutation: Mutation, tests: Sequence[str]) -> list[str]:
    """Plants the fault in a copy below `root`; which of the tests fail for it (the first of each file)."""
    copy = root / "planted"
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "pyproject.toml", "README.md"):
        os.symlink(ROOT / name, copy / name)
    mutation.plant(copy)
    found = []
    for test in tests:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", "addopts=", f"tests/compiler/{test}"],
            cwd=copy, env={**os.environ, "PYTHONPATH": str(copy / "src"), "CHAINRULE_CACHE_DIR": str(root / "cache")},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        failed = [line.split()[1] for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        if run.returncode not in (0, 1) and not failed:
            failed = [f"tests/compiler/{test} (the process died or hung: {run.returncode})"]
        found += failed
    return found


def main() -> None:
    find = "--find" in sys.argv
    wanted = [word for word in sys.argv[1:] if not word.startswith("--")]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for mutation in MUTATIONS:
            if wanted and not any(word in mutation.name for word in wanted):
                continue
            found: list[str] = []
            for test in EVERYWHERE if find else [mutation.test]:
                found = noticed(Path(folder), mutation, [test])
                if found:
                    break
            missed += not found
            print(f"{mutation.name}: {found[0] if found else 'NOT NOTICED'}", flush=True)
    print(f"{missed} not noticed")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
