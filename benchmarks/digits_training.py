"""One process of `whole_process.py`: python benchmarks/digits_training.py LIBRARY DATA.npz

Imports the library, loads the digits, trains 64-128-10 with Adam until the test accuracy reaches the goal, as
somebody who knows the library would write it. Everyone starts from the same weights and visits the rows in the
same order, so that everyone needs the same epochs. Prints the epochs and the accuracy.
"""

import sys

import numpy as np

BATCH, RATE, GOAL, MOST_EPOCHS, SEED = 64, 1e-3, 0.97, 150, 0
SIZES = ((64, 128), (128, 10))


def initial_weights():
    """He's uniform initialisation: W (inputs, outputs) and b of each layer."""
    rng = np.random.default_rng(SEED)
    return [
        (((rng.random((i, o), np.float32) - np.float32(0.5)) * np.float32(2 * (6 / i) ** 0.5)), np.zeros(o, np.float32))
        for i, o in SIZES
    ]


def order(rows, epoch):
    """The order that chainrule's ``Trainer`` visits the rows in (`chainrule.data.shuffled_indices`)."""
    words = np.random.Philox(key=np.array([SEED, epoch], np.uint64)).random_raw(rows)
    return np.argsort(words, kind="stable")


def until_good(rows, train_epoch, accuracy):
    """Epochs until the goal, evaluated after each."""
    for epoch in range(MOST_EPOCHS):
        train_epoch(order(rows, epoch))
        reached = float(accuracy())
        if reached >= GOAL:
            break
    return epoch + 1, reached


def with_chainrule(X, y, X_test, y_test):
    import chainrule as cr
    import chainrule.nn.functional as F
    from chainrule import nn, optim

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    with cr.no_grad():
        for layer, (W, b) in zip((model[0], model[2]), initial_weights(), strict=True):
            layer.weight.copy_(cr.from_numpy(W).T)
            layer.bias.copy_(cr.from_numpy(b))

    def stop_when_good(trainer, epoch, measured):
        if measured["val_accuracy"] >= GOAL:
            trainer.stop()

    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=RATE), metrics=["accuracy"])
    history = trainer.fit(
        X, y, MOST_EPOCHS, BATCH, (X_test, y_test), seed=SEED, progress=False, callbacks=[stop_when_good]
    )  # fmt: skip
    return history.epochs, history["val_accuracy"][-1]


def with_torch(X, y, X_test, y_test):
    import torch
    import torch.nn.functional as F
    from torch import nn

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    with torch.no_grad():
        for layer, (W, b) in zip((model[0], model[2]), initial_weights(), strict=True):
            layer.weight.copy_(torch.from_numpy(W).T)
            layer.bias.copy_(torch.from_numpy(b))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    X, y, X_test, y_test = map(torch.from_numpy, (X, y, X_test, y_test))

    def train_epoch(rows):
        for batch in torch.from_numpy(rows).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(X[batch]), y[batch]).backward()
            optimizer.step()

    def accuracy():
        with torch.no_grad():
            return (model(X_test).argmax(1) == y_test).float().mean()

    return until_good(len(X), train_epoch, accuracy)


def with_jax(X, y, X_test, y_test):
    """An epoch is one ``lax.scan``; the short last batch is filled up with rows of weight zero."""
    import jax
    import jax.numpy as jnp

    def logits(weights, x):
        (W0, b0), (W1, b1) = weights
        return jax.nn.relu(x @ W0 + b0) @ W1 + b1

    def loss(weights, batch):
        rows, share = batch
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits(weights, X[rows])), y[rows][:, None], 1)[:, 0]
        return -(chosen * share).sum()

    def step(state, batch):
        weights, m, v, t = state
        grads, t = jax.grad(loss)(weights, batch), t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        rate, root = RATE / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        return (jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) / root + 1e-8), weights, m, v), m, v, t), None

    @jax.jit
    def epoch(state, rows, share):
        state, _ = jax.lax.scan(step, state, (rows, share))
        return state, (logits(state[0], X_test).argmax(1) == y_test).mean()

    X, y, X_test, y_test = jnp.asarray(X), jnp.asarray(y.astype(np.int32)), jnp.asarray(X_test), jnp.asarray(y_test)
    weights = initial_weights()
    zeros = jax.tree.map(np.zeros_like, weights)
    now = [(weights, zeros, zeros, np.float32(0)), 0.0]
    batches = -(-len(X) // BATCH)
    filled = batches * BATCH - len(X)
    share = np.full((batches, BATCH), 1 / BATCH, np.float32)
    share[-1] = np.repeat([1 / (BATCH - filled), 0], [BATCH - filled, filled])

    def train_epoch(rows):
        now[:] = epoch(now[0], np.append(rows, np.zeros(filled, rows.dtype)).reshape(batches, BATCH), share)

    return until_good(len(X), train_epoch, lambda: now[1])


def with_sklearn(X, y, X_test, y_test):
    """``partial_fit`` of all rows is one epoch of batches; the first call only makes weights to be set."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((128,), batch_size=BATCH, learning_rate_init=RATE, alpha=0.0, shuffle=False)
    model.partial_fit(X[:BATCH], y[:BATCH], classes=np.arange(10))
    for layer, (W, b) in enumerate(initial_weights()):
        model.coefs_[layer][...], model.intercepts_[layer][...] = W, b
    del model._optimizer
    return until_good(
        len(X), lambda rows: model.partial_fit(X[rows], y[rows]), lambda: (model.predict(X_test) == y_test).mean()
    )


if __name__ == "__main__":
    with np.load(sys.argv[2]) as data:
        parts = [data[name] for name in ("X", "y", "X_test", "y_test")]
    print(*globals()[f"with_{sys.argv[1]}"](*parts))
