"""The nearest thing there is, for names and keywords of PyTorch's where it is called something else here."""

from __future__ import annotations

_CPU = "There is only the CPU here: leave it out."
_FLOATS = "There are bfloat16, float32 and float64."
_ALONE = "One process trains, on several threads: leave it out."
_INTEGERS = "There are uint8, int32 and int64."
_NORMS = "nn.utils.weight_norm and nn.utils.spectral_norm are there."
_ELEMENTS = "x.numpy() gives the elements."

NEAREST = {
    "cuda": _CPU,
    "mps": _CPU,
    "xpu": _CPU,
    "device=": _CPU,
    "pin_memory=": _CPU,
    "non_blocking=": _CPU,
    "layout=": "Every tensor is dense and row-major: leave it out.",
    "pickle_module=": "Nothing is pickled here: leave it out.",
    "pickle_protocol=": "Nothing is pickled here: leave it out.",
    "size=": "Give the sizes by position, as in cr.ones(2, 3) or cr.ones((2, 3)).",
    "size_average=": "Use reduction='mean' or 'sum'.",
    "reduce=": "Use reduction='none'.",
    "foreach=": "A compiled step updates all parameters in one program: leave it out.",
    "fused=": "A compiled step updates all parameters in one program: leave it out.",
    "capturable=": "Leave it out.",
    "assign=": "The values are copied into the module's own tensors: leave it out.",
    "float16": _FLOATS,
    "half": _FLOATS,
    "jit": "Use cr.compile.",
    "compile": "Use cr.Trainer(model, loss, optimizer), or cr.compile for a step of your own.",
    "DataParallel": _CPU,
    "DistributedDataParallel": _ALONE,
    "parametrize": _NORMS,
    "parametrizations": _NORMS,
    "resize_": "Write x = x.reshape(sizes), or make a new tensor.",
    "storage": _ELEMENTS,
    "untyped_storage": _ELEMENTS,
    "linearize": "cr.func.jvp pushes one tangent through a function.",
    **dict.fromkeys(
        ("inv", "inverse", "solve", "det", "slogdet", "cholesky", "qr", "svd", "eigh", "eig", "lstsq", "pinv"),
        "np.linalg computes it from x.detach().numpy(), without a gradient.",
    ),
    "distributed": _ALONE,
    "DistributedSampler": _ALONE,
    "short": _INTEGERS,
    "int8": _INTEGERS,
    "int16": _INTEGERS,
    "char": _INTEGERS,
    "mode": "cr.unique(x, return_counts=True) counts each value.",
    "random": "cr.manual_seed, cr.initial_seed and cr.get_rng_state are in chainrule itself.",
    "modules": "Its classes are in nn: nn.Linear.",
    "checkpoint": "cr.backward_in_micro_batches takes less memory, with the same gradients.",
    "clip_grad": "nn.utils.clip_grad_norm_ is in nn.utils itself.",
    "parallel": _ALONE,
    "multiprocessing": "Python's own multiprocessing is there.",
    "serialization": "cr.save and cr.load are in chainrule itself.",
    "testing": "np.testing.assert_allclose compares x.numpy().",
    "fft": "np.fft computes it from x.detach().numpy(), without a gradient.",
    **dict.fromkeys(
        ("anomaly_mode", "detect_anomaly", "set_detect_anomaly"),
        "fit of a Trainer names the operation that gave the first NaN or infinity.",
    ),
    "tensorboard": "chainrule.callbacks.TensorBoard writes its files.",
}
