"""Does the optimizer move what the model is made of?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from chainrule.errors import SettingError
from chainrule.lines import user_line
from chainrule.tensor import Tensor
from chainrule.training import attributes, state
from chainrule.training.session import Session

MOST = 5  # names in a message
BESIDE = "optimized."  # how `state.named` calls what the optimizer moves and is neither model's nor loss's


def check_optimizer(session: Session, who: str, warn: bool = True) -> None:
    """Look for parameters of model and loss that the optimizer does not hold, while it holds tensors of neither.

    It may leave some out, and hold others that `forward` reaches; both at once is most often a layer that was exchanged
    after the optimizer was made.

    Raises:
        SettingError: it holds none of them, or all parameters of a training that begins are frozen.
    """
    _check_trainable(session, who, warn)
    named = session.named()
    if not any(name.startswith(BESIDE) for name in named):
        return
    own = {name.removeprefix("model."): t for name, t in named.items() if not name.startswith(BESIDE)}
    beside = attributes.named(session.model, session.loss)
    known, held = (
        {id(t) for t in (*own.values(), *beside.values())},
        {id(t) for t in state.optimized(session.optimizer)},
    )
    strange = [t for t in state.optimized(session.optimizer) if id(t) not in known]
    left = [name for name, t in own.items() if t.requires_grad and id(t) not in held]
    if not strange or not left:
        return
    if not known & held:
        raise SettingError(
            f"{who}: the optimizer holds {_shapes(strange)}, and none of the parameters of the model or the loss, so it "
            f"would train nothing of them. Make it of model.parameters(); where other tensors are to be trained, freeze "
            f"the model first (model.requires_grad_(False))."
        )
    if warn:
        _warn(
            f"{who}: the optimizer does not hold {_listed([repr(name) for name in left])}, and holds {_shapes(strange)} of "
            f"neither model nor loss: was a layer exchanged after the optimizer was made? Make the optimizer of "
            f"model.parameters() anew, or freeze what is not to be trained (requires_grad_(False))."
        )


def _check_trainable(session: Session, who: str, begins: bool) -> None:
    """Something is to be trained."""
    if not begins or any(t.requires_grad for t in state.optimized(session.optimizer)):
        return
    own = list(session.model.parameters())
    if not own or any(t.requires_grad for t in own):
        return
    raise SettingError(
        f"{who}: all {len(own)} parameters of the {type(session.model).__name__} are frozen (requires_grad is False), so there "
        f"is nothing to train. Unfreeze them with model.requires_grad_(True), or some with model[-1].requires_grad_(True)."
    )


def _warn(text: str) -> None:
    """At the user's line."""
    line = user_line()
    if line is None:
        warnings.warn(text, stacklevel=2)
    else:
        warnings.warn_explicit(text, UserWarning, line.file, line.number)


def _shapes(tensors: Sequence[Tensor]) -> str:
    shapes = _listed([str(tuple(t.shape)) for t in tensors])
    return f"{len(tensors)} tensor{'s' if len(tensors) > 1 else ''} of shape {shapes}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
