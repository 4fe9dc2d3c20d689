"""Reverse-mode differentiation, and the functions of functions made of it."""

from chainrule.autodiff.custom import custom_vjp as custom_vjp
from chainrule.autodiff.transforms import grad as grad
from chainrule.autodiff.transforms import hessian as hessian
from chainrule.autodiff.transforms import jacobian as jacobian
from chainrule.autodiff.transforms import jvp as jvp
from chainrule.autodiff.transforms import value_and_grad as value_and_grad
from chainrule.autodiff.transforms import vjp as vjp
from chainrule.autodiff.walk import distribute as distribute
from chainrule.autodiff.walk import gradients as gradients
