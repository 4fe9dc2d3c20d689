"""Own pieces: a Function with its derivative, a layer with its parameters, hooks that look on and one that changes."""

import math

import numpy as np
import torch
from start import same_start
from torch import nn
from torch.autograd import Function
from torch.nn.parameter import Parameter


class Exp(Function):
    @staticmethod
    def forward(ctx, i):
        result = i.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, grad_output):
        (result,) = ctx.saved_tensors
        return grad_output * result


class LinearFunction(Function):
    @staticmethod
    def forward(ctx, input, weight, bias):
        ctx.save_for_backward(input, weight, bias)
        return input.mm(weight.t()) + bias.unsqueeze(0).expand(input.size(0), -1)

    @staticmethod
    def backward(ctx, grad_output):
        input, weight, _bias = ctx.saved_tensors
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = grad_output.mm(weight)
        if ctx.needs_input_grad[1]:
            grad_weight = grad_output.t().mm(input)
        if ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum(0)
        return grad_input, grad_weight, grad_bias


class Linear(nn.Module):
    def __init__(self, input_features, output_features):
        super().__init__()
        self.weight = Parameter(torch.empty(output_features, input_features))
        self.bias = Parameter(torch.empty(output_features))
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.zero_()

    def forward(self, input):
        return LinearFunction.apply(input, self.weight, self.bias)

    def extra_repr(self):
        return f"input_features={self.weight.size(1)}, output_features={self.weight.size(0)}"


rng = np.random.default_rng(0)
model = same_start(nn.Sequential(Linear(4, 6), nn.Tanh(), Linear(6, 2)))
seen = {}
model[1].register_forward_hook(lambda module, args, output: seen.update(activation=output.detach().abs().mean().item()))
model[0].register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
model[2].register_full_backward_hook(lambda module, grad_in, grad_out: seen.update(gradient=grad_out[0].norm().item()))
handle = model[2].bias.register_hook(lambda grad: grad.clamp(-0.1, 0.1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for step in range(4):
    x = torch.tensor(rng.normal(size=(8, 4)), dtype=torch.float32)
    y = torch.tensor(rng.normal(size=(8, 2)), dtype=torch.float32)
    loss = (Exp.apply(0.3 * model(x)) - y).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses += [loss.item(), seen["activation"], seen["gradient"]]
    if step == 1:
        handle.remove()
for name, parameter in model.named_parameters():
    print(name, tuple(parameter.shape), parameter.requires_grad)
