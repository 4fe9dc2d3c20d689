"""The mirrored layout: edges run right, no two nodes share a place, weights stand beside their readers."""

from hypothesis import given
from hypothesis import strategies as st

from chainrule.explain.report.layout import mirrored


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 40))
    inputs = [draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else [] for i in range(size)]
    starts = [draw(st.booleans()) if not reads else False for reads in inputs]
    flowing = []
    for i, reads in enumerate(inputs):
        flowing.append(starts[i] or any(flowing[j] for j in reads))
    return inputs, flowing


@given(graphs())
def test_every_edge_runs_right_and_no_two_nodes_share_a_place(graph):
    inputs, flowing = graph
    placed = mirrored(inputs, flowing)
    for node, reads in enumerate(inputs):
        assert all(placed.columns[source] < placed.columns[node] for source in reads)
    places = list(zip(placed.columns, placed.lanes, strict=True))
    assert len(set(places)) == len(places)
    assert min(placed.columns) == 0
    assert min(placed.lanes) >= 0


def test_a_weight_stands_beside_the_product_that_reads_it():
    # the batch, a weight, the weight turned, their product, a second weight, the second product
    inputs = [[], [], [1], [0, 2], [], [3, 4]]
    placed = mirrored(inputs, [True, False, False, True, False, True])
    assert placed.columns == [1, 0, 1, 2, 2, 3]
    assert [placed.lanes[node] for node in (0, 3, 5)] == [0, 0, 0]  # the batch's own way is straight
    assert placed.columns[4] == placed.columns[5] - 1


def test_modules_in_a_row_do_not_reach_into_each_other_s_columns():
    # x -> [w1 -> turned -> product] -> [mask -> mul] -> [w2 -> turned -> product]
    inputs = [[], [], [1], [0, 2], [], [3, 4], [], [6], [5, 7]]
    flowing = [True, False, False, True, False, True, False, False, True]
    owner = [0, 1, 1, 1, 2, 2, 3, 3, 3]
    columns = mirrored(inputs, flowing, owner).columns
    spans = {m: [c for c, o in zip(columns, owner, strict=True) if o == m] for m in set(owner)}
    for module in (0, 1, 2):
        assert max(spans[module]) < min(spans[module + 1])


def test_a_long_chain_is_laid_out_without_recursion():
    placed = mirrored([[i - 1] if i else [] for i in range(3000)], [True] * 3000)
    assert placed.columns == list(range(3000))
    assert placed.width == 3000
    assert set(placed.lanes) == {0}
