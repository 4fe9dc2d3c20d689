"""A model in one file: its architecture as a description, its weights under their own names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from chainrule.deploy.architecture import Builder, describe, foreign
from chainrule.errors import DamagedFileError, SettingError, StateDictError, kind_of
from chainrule.files.document import Fields, short
from chainrule.files.reading import MissingFileError
from chainrule.files.writing import shown
from chainrule.names import takes_keywords
from chainrule.nn import Module
from chainrule.nn import state as module_state
from chainrule.nn.compiled import bare
from chainrule.nn.utils.norms import norm_on
from chainrule.tensor import Tensor
from chainrule.training.checkpoints import load_file, save_file

FORMAT = "chainrule.model/1"
_REMEDY = "Copy it again, or save the model again."


@takes_keywords("torch")
def save_model(model: Module, path: str | os.PathLike[str]) -> None:
    """Write a model with its architecture to one safetensors file, which `load_model` builds it from.

    The file holds the names of chainrule's own layers and their arguments as they are now, the weights under the keys of
    ``state_dict()`` (so that PyTorch's ``safetensors.torch.load_file`` reads them), what is frozen, shared and in evaluation
    mode, and a checksum. No code is in it.

    A class of your own can be built by its own code alone: of a model that has one the weights are written, and `load_model`
    takes the model to load them into. So it is with a layer under `nn.utils.weight_norm` or `spectral_norm`.

    Args:
        model: the model.
        path: the file; replaced only once the new one is complete.

    Raises:
        SettingError: `model` is no module, or a setting of a layer is nothing that a file can hold.
        UnwritableFileError: the folder or the disk does not take it.

    Example:
        >>> import os, tempfile
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> cr.save_model(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), path)
        >>> cr.load_model(path)
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): ReLU()
          (2): Linear(in_features=8, out_features=2, bias=True)
        )
    """
    save_file(dict(_state(model)), path, {"format": FORMAT, **about(model)})


def _state(model: Module) -> Mapping[str, Tensor]:
    if not isinstance(model, Module):
        remedy = "Tensors alone are saved by cr.save."
        if hasattr(model, "predict"):  # a trainer, an estimator
            remedy = "With what it takes to predict it is saved by cr.bundle(it).save(path)."
        raise SettingError(f"save_model: model must be an nn.Module, got {type(model).__name__}. {remedy}")
    return bare(model).state_dict()


def about(model: Module, predicting: bool = False) -> dict[str, Any]:
    """What a file says of a model beside its tensors; one that is to predict is in evaluation mode there."""
    model = bare(model)
    theirs = foreign(model)
    names: dict[int, str] = {}
    tied = {}
    for name, parameter in model._named_members("_parameters", "", True, False):
        if names.setdefault(id(parameter), name) != name:
            tied[name] = names[id(parameter)]
    found = {
        "class": type(model).__name__, "foreign": None if theirs is None else type(theirs).__name__,
        "architecture": describe(model, predicting) if theirs is None else None, "tied": tied, "frozen": [n for n, p in model.named_parameters() if not p.requires_grad],
    }  # fmt: skip
    if theirs is not None and (norm := norm_on(theirs)):
        found["norm"] = norm
    if theirs is None:  # what is written can be read: found out now, and not on another machine
        try:
            build(Fields(found, "save_model"), model.state_dict())
        except DamagedFileError as error:
            raise SettingError(
                f"save_model: this {found['class']} cannot be built from the arguments of its layers: "
                f"{str(error).removeprefix('save_model: ').removesuffix(_REMEDY).strip()} Parameters that were added to a layer, "
                f"or put in the place of its own with another shape, need a class of your own."
            ) from None
    return found


def build(saved: Fields, tensors: Mapping[str, Tensor]) -> Module:
    """The model that `about` described, with these values.

    Raises:
        DamagedFileError: it describes none, or one that the values do not fit.
    """
    model = Builder(tensors).build(saved.fields("architecture"))
    parameters = dict(model._named_members("_parameters", "", True, False))
    for name, first in saved.fields("tied").value.items():
        if name not in parameters or not isinstance(first, str) or first not in parameters:
            saved.refuse("tied", "names of parameters", [name, first])
        path, _, own = name.rpartition(".")
        model.get_submodule(path)._parameters[own] = parameters[first]
    _put(saved, model, tensors)
    for name in saved.items("frozen", lambda v: isinstance(v, str) and v in parameters, "a list of parameters"):
        parameters[name].requires_grad_(False)
    return model


def _put(saved: Fields, model: Module, tensors: Mapping[str, Tensor]) -> None:
    own = model._saved()
    try:
        module_state.fitting(type(model).__name__, own, tensors)
    except StateDictError as error:
        raise DamagedFileError(f"{saved.source}: its tensors are not those of its architecture: {error}") from None
    for name, tensor in tensors.items():
        if tensor.dtype is not own[name].dtype:
            raise DamagedFileError(
                f"{saved.source}: {name!r} must be {own[name].dtype.name}, got {tensor.dtype.name}. {saved.remedy}"
            )
    model.load_state_dict(tensors)


@takes_keywords("torch")
def load_model(path: str | os.PathLike[str], model: Module | None = None) -> Module:
    """The model that `save_model` wrote, or that is in a bundle; no code of the file is run.

    Args:
        path: the file.
        model: load the weights into this one and give it back; needed where the file's has a class of your own in it. It is
            changed whole or not at all, and keeps its mode and what is frozen in it.

    Returns:
        The model, in training or evaluation mode as it was saved: call ``eval()`` to use it.

    Raises:
        DamagedFileError: the file is missing, cut off, changed or of another kind.
        SettingError: the file's model has a class of your own in it, and no `model` was given; or it is no module.
        StateDictError: the weights do not fit `model`.
    """
    check_model("load_model", model)
    tensors, saved = read(path, "a model")
    return made_of("load_model", saved, tensors, model)


def check_model(who: str, model: object) -> None:
    """Raise `SettingError` unless weights can be loaded into it; None stands for a new one."""
    if model is not None and not isinstance(model, Module):
        came = f"the class {model.__name__}" if isinstance(model, type) else kind_of(model)
        raise SettingError(
            f"{who}: model must be an nn.Module to load the weights into, got {came}. Build one as it was and pass it: "
            f"cr.{who}(path, model)."
        )


def made_of(who: str, saved: Fields, tensors: Mapping[str, Tensor], model: Module | None) -> Module:
    """The model of a file, built, or the one that was given with its weights."""
    if model is not None:
        bare(model).load_state_dict(tensors)
        return model
    theirs = saved.text("foreign") if saved.has("foreign") else None
    if theirs is not None:
        holder = f"{who}: the {short(saved.value.get('class'))[1:-1]} in {saved.source} has a"
        norm = saved.text("norm") if saved.has("norm") else None
        if norm in ("weight_norm", "spectral_norm"):
            raise SettingError(
                f"{holder} {theirs[:60]} under nn.utils.{norm}, which no file can put on. Build the model with it and pass it: "
                f"cr.{who}(path, model). Or save it with the norm taken off: nn.utils.remove_{norm}(layer)."
            )
        raise SettingError(
            f"{holder} layer of the class {theirs[:60]}, which is not chainrule's own, and no file can build that without its code. "
            f"Build the model and pass it: cr.{who}(path, model)."
        )
    return build(saved, tensors)


def read(path: str | os.PathLike[str], what: str) -> tuple[dict[str, Tensor], Fields]:
    """The tensors of a file with a model, and what it says of it.

    Raises:
        DamagedFileError: it holds none.
    """
    try:
        tensors, meta = load_file(path)
    except MissingFileError:
        raise
    except DamagedFileError:
        if not shown(path).lower().endswith(".onnx"):
            raise
        raise DamagedFileError(
            f"{shown(path)}: this is an ONNX file, which onnxruntime runs (onnxruntime.InferenceSession), and there is not {what} in "
            f"it. Write one under a name that does not end in .onnx: chainrule export, or save."
        ) from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DamagedFileError(
            f"{shown(path)}: there is not {what} in this file that this version can read. Tensors alone are read by cr.load, "
            f"and put into a model that you build by model.load_state_dict; a training by trainer.load."
        )
    return tensors, Fields(meta, shown(path), _REMEDY)
