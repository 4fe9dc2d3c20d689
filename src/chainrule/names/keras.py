"""What Keras's names are called here, by the place where its users look for them."""

from __future__ import annotations

_LINEAR = "Use nn.Linear(inputs, outputs), and the activation as a layer behind it."

KERAS = {
    "nn": {
        "Dense": _LINEAR,
        "BatchNormalization": "Use nn.BatchNorm1d(features).",
        "LayerNormalization": "Use nn.LayerNorm(features).",
        "Activation": "Use the activation's own layer, as in nn.ReLU().",
        "Input": "Leave it out: the first layer knows its inputs, and nn.LazyLinear finds them.",
        "Concatenate": "Use cr.cat(tensors, dim=1) in forward.",
    },
    "Module": {
        "fit": "Use cr.Trainer(model, loss, optimizer).fit(X, y).",
        "evaluate": "Use cr.Trainer(model, loss, optimizer).evaluate(X, y).",
        "predict": "Use cr.Trainer(model, loss, optimizer).predict(X).",
        "summary": "Use print(nn.summary(model, (1, inputs))).",
        "add": "Use append, or give Sequential all its layers.",
        "save_weights": "Use cr.save(model.state_dict(), path).",
        "load_weights": "Use model.load_state_dict(cr.load(path)).",
        "get_weights": "Use model.state_dict().",
        "set_weights": "Use model.load_state_dict(state).",
    },
    "Trainer": {"stop_training": "Call trainer.stop(), which ends the training after the current epoch."},
    "History": {
        "history": "Use history['loss']: it is the mapping itself.",
        "epoch": "Use history.epochs, how many there are.",
    },
    "callbacks": {
        "ModelCheckpoint": "Use Checkpoint(folder, save='best').",
        "BackupAndRestore": "Use fit(checkpoint=folder).",
        "ReduceLROnPlateau": "Use Trainer(scheduler=optim.lr_scheduler.ReduceLROnPlateau(optimizer)).",
        "LearningRateScheduler": "Use Trainer(scheduler=optim.lr_scheduler.LambdaLR(optimizer, factor)).",
        "LambdaCallback": "Use a function (trainer, epoch, measured), which runs after every epoch.",
        "TerminateOnNaN": "Leave it out: fit raises NonFiniteError, and keeps the last good weights.",
        "History": "Leave it out: fit returns the history.",
        "ProgbarLogger": "Use fit(progress=True).",
    },
}

#: Keywords of Keras's, scikit-learn's and others', and what they are called here; the first that a function has counts.
RENAMED = {
    "learning_rate": ("lr",), "learning_rate_init": ("lr",), "eta": ("lr",), "epsilon": ("eps",), "beta_1": ("betas",),
    "beta_2": ("betas",), "beta1": ("betas",), "beta2": ("betas",), "rho": ("alpha", "betas"), "decay": ("weight_decay", "gamma"),
    "l2": ("weight_decay",), "nesterovs_momentum": ("nesterov",), "units": ("out_features",), "input_dim": ("in_features", "num_embeddings"),
    "output_dim": ("out_features", "embedding_dim"), "inputs": ("in_features", "input"), "outputs": ("out_features",),
    "in_channels": ("in_features",), "out_channels": ("out_features",), "use_bias": ("bias",), "rate": ("p",), "prob": ("p",),
    "probability": ("p",), "dropout": ("p",), "dropout_rate": ("p",), "keep_prob": ("p",), "axis": ("dim",), "keepdims": ("keepdim",),
    "center": ("bias", "affine"), "mask_zero": ("padding_idx",), "x": ("input",), "y_true": ("target",),
    "y_pred": ("input",), "labels": ("target",), "logits": ("input",), "class_weight": ("weight",), "sample_weight": ("weight",),
    "filename": ("path", "folder"), "filepath": ("path", "folder"), "file": ("path", "f"), "log_dir": ("folder",),
    "sep": ("separator",), "delimiter": ("separator",), "num_epochs": ("epochs",), "n_epochs": ("epochs",), "workers": ("num_workers",),
    "n_jobs": ("num_workers", "threads"), "names": ("columns",), "labels_": ("classes",), "random_state": ("seed", "generator"),
    "factor": ("gamma",), "step": ("step_size",), "decay_rate": ("gamma",), "decay_steps": ("step_size", "T_max"), "minutes": ("seconds",),
}  # fmt: skip

_BEHIND = "Put it behind the layer: nn.Sequential(nn.Linear(...), nn.ReLU())."
_INIT = "Use nn.init on the layer's parameters."
_DECAY = "Use the optimizer's weight_decay."
_CLIP = "Use Trainer(max_norm=...), or nn.utils.clip_grad_norm_ in a step of your own."
#: And what there is in place of those that no function has.
ELSEWHERE = {
    "activation": _BEHIND, "nonlinearity": _BEHIND, "kernel_initializer": _INIT, "bias_initializer": _INIT, "init": _INIT,
    "kernel_regularizer": _DECAY, "bias_regularizer": _DECAY, "activity_regularizer": _DECAY, "clipnorm": _CLIP, "clipvalue": _CLIP,
    "global_clipnorm": _CLIP, "input_shape": "Leave it out: a layer knows its inputs by in_features, and nn.LazyLinear finds them.",
    "trainable": "Use layer.requires_grad_(False).", "name": "Leave it out: a layer is called as the attribute that holds it.",
    "from_logits": "Losses say in their names what they read: cross_entropy takes logits, nll_loss log-probabilities.",
    "jit_compile": "Leave it out: a Trainer compiles its steps, and cr.compile yours.", "use_ema": "Use fit(callbacks=[EMA()]).",
}  # fmt: skip

_START = "Use on_fit_start(trainer)."
_END = "Use on_fit_end(trainer)."
_EPOCH = "Use on_epoch_end(trainer, epoch, measured)."
_BEFORE_EPOCH = "Use on_fit_start(trainer), and on_epoch_end(trainer, epoch, measured) of the epoch before."
_STEPS = "Steps run many in one native call: use on_steps(trainer, step, loss), after each call, or after_step() in the compiled step."
_VALIDATED = "Use on_epoch_end(trainer, epoch, measured): measured holds the validation, as 'val_loss'."
_GIVEN = "Leave it out: every method is given the trainer, which has the model, and trainer.stop()."
#: Methods of Keras's callbacks and of Lightning's that a callback has not here, and what there is.
CALLBACK_METHODS = {
    "on_train_begin": _START, "on_train_start": _START, "on_train_end": _END,
    "on_epoch_begin": _BEFORE_EPOCH, "on_epoch_start": _BEFORE_EPOCH, "on_train_epoch_start": _BEFORE_EPOCH, "on_train_epoch_end": _EPOCH,
    "on_batch_begin": _STEPS, "on_batch_end": _STEPS, "on_train_batch_begin": _STEPS, "on_train_batch_start": _STEPS,
    "on_train_batch_end": _STEPS, "on_test_begin": _VALIDATED, "on_test_end": _VALIDATED, "on_test_batch_begin": _VALIDATED,
    "on_test_batch_end": _VALIDATED, "on_validation_start": _VALIDATED, "on_validation_end": _VALIDATED,
    "on_validation_epoch_end": _VALIDATED, "on_predict_begin": "Put it around trainer.predict.",
    "on_predict_end": "Put it around trainer.predict.", "on_predict_batch_begin": "Put it around trainer.predict.",
    "on_predict_batch_end": "Put it around trainer.predict.", "set_model": _GIVEN, "set_params": _GIVEN,
}  # fmt: skip
