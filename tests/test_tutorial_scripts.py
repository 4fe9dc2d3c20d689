"""Scripts in the style of tutorials: with nothing but the imports changed they train as under PyTorch, loss by loss.

Weights are PyTorch's, by ``state_dict``; data come from NumPy, so that both compute the same.
"""

import numpy as np
import pytest

import chainrule as cr
from tests.optional import torch

RNG = np.random.default_rng(0)
X, IMAGES = RNG.standard_normal((32, 8)).astype(np.float32), RNG.standard_normal((8, 1, 12, 12)).astype(np.float32)
LABELS, TOKENS = RNG.integers(0, 3, 32), RNG.integers(0, 7, (6, 4))


def quickstart(torch, start):
    """A network of images, a loader, an optimizer: the first page of many."""
    from_numpy, nn = torch.from_numpy, torch.nn
    device = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"

    class NeuralNetwork(nn.Module):
        def __init__(self):
            super().__init__()
            self.flatten = nn.Flatten()
            self.linear_relu_stack = nn.Sequential(nn.Linear(144, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))

        def forward(self, x):
            return self.linear_relu_stack(self.flatten(x))

    model = start(NeuralNetwork()).to(device)
    data = torch.utils.data.TensorDataset(from_numpy(IMAGES), from_numpy(LABELS[:8]))
    loader = torch.utils.data.DataLoader(data, batch_size=4, pin_memory=False)
    loss_fn, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=1e-1)
    losses = []
    for _ in range(3):
        model.train()
        for X, y in loader:
            X, y = X.to(device), y.to(device)
            loss = loss_fn(model(X), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    model.eval()
    with torch.inference_mode():
        correct = (model(from_numpy(IMAGES)).argmax(1) == from_numpy(LABELS[:8])).type(torch.float).sum().item()
    return [*losses, correct]


def convolutional(torch, start):
    """Convolutions with batch normalisation, to a mean over all places."""
    nn, F = torch.nn, torch.nn.functional

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
            self.conv2, self.bn2 = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.pool, self.head = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(6, 3)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
            x = F.relu(self.bn2(self.conv2(x)))
            return self.head(torch.flatten(self.pool(x), 1))

    model = start(Net())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y, losses = torch.from_numpy(IMAGES), torch.from_numpy(LABELS[:8]), []
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return [*losses, *model.bn1.running_mean.tolist()]


def autoencoder(torch, start):
    """Images made smaller by convolutions, and larger by transposed ones."""
    nn = torch.nn
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True))
    decoder = nn.Sequential(
        nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1), nn.Tanh(), nn.Upsample(scale_factor=1), nn.Conv2d(2, 1, 1)
    )
    model = start(nn.Sequential(encoder, decoder))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, losses = torch.from_numpy(IMAGES), []
    for _ in range(3):
        loss = nn.functional.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def variational(torch, start):
    """An autoencoder that draws: its noise is given, so that both draw the same."""
    nn, D = torch.nn, torch.distributions
    model = start(nn.ModuleDict({"encode": nn.Linear(8, 6), "decode": nn.Linear(3, 8)}))
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    x, noise = torch.from_numpy(X), torch.from_numpy(RNG_NOISE)
    for _ in range(3):
        mean, log_scale = model["encode"](x).chunk(2, dim=-1)
        posterior = D.Normal(mean, log_scale.exp())
        z = posterior.mean + posterior.stddev * noise
        likelihood = D.Independent(D.Normal(model["decode"](z), torch.ones(1)), 1)
        divergence = D.kl_divergence(posterior, D.Normal(torch.zeros(3), torch.ones(3))).sum(-1)
        loss = (divergence - likelihood.log_prob(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


RNG_NOISE = RNG.standard_normal((32, 3)).astype(np.float32)


def reinforce(torch, start):
    """A policy that learns from the returns of given actions."""
    policy = start(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)))
    optimizer, losses = torch.optim.Adam(policy.parameters(), lr=1e-2), []
    states, actions = torch.FloatTensor(X), torch.LongTensor(LABELS)
    for _ in range(3):
        m = torch.distributions.Categorical(torch.softmax(policy(states), dim=-1))
        returns = torch.flip(torch.cumsum(torch.flip(torch.linspace(0, 1, 32), dims=(0,)), dim=0), dims=(0,))
        returns = (returns - returns.mean()) / (returns.std() + torch.finfo(torch.float32).eps)
        loss = -(m.log_prob(actions) * returns).sum() - 0.01 * m.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def language_model(torch, start):
    """A transformer over tokens, with a causal mask, a schedule and the few likeliest next tokens."""
    nn = torch.nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 8)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 2)
            self.out = nn.Linear(8, 7)

        def forward(self, tokens):
            mask = nn.Transformer.generate_square_subsequent_mask(tokens.size(1))
            return self.out(self.encoder(self.embed(tokens) * 8**0.5, mask=mask))

    model = start(Model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.95)
    tokens, losses = torch.from_numpy(TOKENS), []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).view(-1, 7), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return [*losses, *torch.topk(model(tokens)[0, -1], 3).indices.tolist()]


def own_function(torch, start):
    """A polynomial with a derivative of its own, and hooks that look on."""

    class LegendrePolynomial3(torch.autograd.Function):
        @staticmethod
        def forward(ctx, input):
            ctx.save_for_backward(input)
            return 0.5 * (5 * input**3 - 3 * input)

        @staticmethod
        def backward(ctx, grad_output):
            (input,) = ctx.saved_tensors
            return grad_output * 1.5 * (5 * input**2 - 1)

    x = torch.linspace(-3.14, 3.14, 50, dtype=torch.float)
    a, b, c, d = (torch.full((), value, requires_grad=True) for value in (0.0, -1.0, 0.0, 0.3))
    seen, losses = [], []
    d.register_hook(lambda grad: seen.append(grad.item() / 1e4))
    for _ in range(4):
        y = a + b * LegendrePolynomial3.apply(c + d * x)
        loss = (y - torch.sin(x)).pow(2).sum()
        loss.backward()
        losses.append(loss.item() / 100)
        with torch.no_grad():
            for p in (a, b, c, d):
                p -= 5e-6 * p.grad
                p.grad = None
    return losses + seen


def physics(torch, start):
    """A network whose second derivative is asked for: the equation of an oscillator."""
    net = start(torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)))
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=1e-2), []
    for _ in range(3):
        t = torch.linspace(0, 1, 20).view(-1, 1).requires_grad_(True)
        u = net(t)
        (du,) = torch.autograd.grad(u, t, torch.ones_like(u), create_graph=True)
        (ddu,) = torch.autograd.grad(du, t, torch.ones_like(du), create_graph=True)
        loss = torch.mean((ddu + 4 * du + u) ** 2) + torch.mean((u[0] - 1) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def sequence(torch, start):
    """A cell step by step over characters, then attention over what it left, by named axes."""
    nn = torch.nn
    model = start(nn.ModuleDict({"cell": nn.GRUCell(7, 5), "query": nn.Linear(5, 5), "out": nn.Linear(5, 7)}))
    optimizer, losses = torch.optim.RMSprop(model.parameters(), lr=1e-2), []
    tokens = torch.from_numpy(TOKENS)
    for _ in range(3):
        h, left = torch.zeros(6, 5), []
        for step in nn.functional.one_hot(tokens, 7).float().unbind(1):
            h = model["cell"](step, h)
            left.append(h)
        states = torch.stack(left, dim=1)
        weights = torch.einsum("bte,be->bt", states, model["query"](h)).softmax(dim=-1)
        context = torch.einsum("bt,bte->be", weights, states)
        loss = nn.functional.nll_loss(model["out"](context).log_softmax(-1), tokens[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def adversaries(torch, start):
    """A generator against a discriminator, each with an optimizer of its own."""
    nn = torch.nn
    both = start(
        nn.ModuleList(
            [
                nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.2, inplace=True), nn.Linear(8, 8)),
                nn.Sequential(nn.Linear(8, 8), nn.PReLU(), nn.Linear(8, 1), nn.Sigmoid()),
            ]
        )
    )
    G, D = both
    g_opt, d_opt = (torch.optim.Adam(m.parameters(), lr=2e-3, betas=(0.5, 0.999)) for m in (G, D))
    criterion, noise, losses = nn.BCELoss(), torch.autograd.Variable(torch.from_numpy(RNG_NOISE)), []
    valid, fake = torch.ones(32, 1), torch.zeros(32, 1)
    for _ in range(3):
        g_opt.zero_grad()
        made = G(noise)
        g_loss = criterion(D(made), valid)
        g_loss.backward()
        g_opt.step()
        d_opt.zero_grad()
        d_loss = (criterion(D(torch.from_numpy(X)), valid) + criterion(D(made.detach()), fake)) / 2
        d_loss.backward()
        d_opt.step()
        losses += [g_loss.item(), d_loss.item()]
    return losses


SCRIPTS = [
    quickstart,
    convolutional,
    autoencoder,
    variational,
    reinforce,
    language_model,
    own_function,
    physics,
    sequence,
    adversaries,
]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # PyTorch's own
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_losses_are_those_of_pytorch(script):
    torch.manual_seed(0)  # skips where PyTorch is missing
    weights = {}

    def keep(model):
        weights.update({name: value.clone().numpy() for name, value in model.state_dict().items()})
        return model

    def take(model):
        model.load_state_dict(weights)
        return model

    theirs = script(torch, keep)
    np.testing.assert_allclose(script(cr, take), theirs, rtol=1e-5, atol=1e-5)
