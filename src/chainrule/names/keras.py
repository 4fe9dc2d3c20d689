"""What Keras's names are called here, by the place where its users look for them."""

from __future__ import annotations

_LINEAR = "Use nn.Linear(inputs, outputs), and the activation as a layer behind it."
_INIT = "Use nn.init on the layer's parameters."
_DECAY = "Use the optimizer's weight_decay."
_RATE = "The learning rate is optimizer.param_groups[0]['lr']."

KERAS = {
    "nn": {
        "Dense": _LINEAR,
        "BatchNormalization": "Use nn.BatchNorm1d(features).",
        "LayerNormalization": "Use nn.LayerNorm(features).",
        "Activation": "Use the activation's own layer, as in nn.ReLU().",
        "Input": "Leave it out: the first layer knows its inputs, and nn.LazyLinear finds them.",
        "InputLayer": "Leave it out: the first layer knows its inputs, and nn.LazyLinear finds them.",
        "Concatenate": "Use cr.cat(tensors, dim=1) in forward.",
        "Add": "Use a + b in forward.",
        "Lambda": "Write a class with forward: class Mine(nn.Module).",
        "Model": "Write a class with forward: class Net(nn.Module); or nn.Sequential(...).",
        "Reshape": "Use nn.Unflatten(1, shape).",
        "Rescaling": "Scale the arrays before fit, or in forward.",
        "Normalization": "Scale the arrays before fit: (X - X.mean(0)) / X.std(0).",
        "GaussianNoise": "Use x + 0.1 * cr.randn_like(x) in forward, where self.training.",
        "Conv1D": "Use nn.Conv1d(inputs, outputs, kernel_size): channels are axis 1, (N, C, L).",
        "Conv2D": "Use nn.Conv2d(inputs, outputs, kernel_size): channels are axis 1, (N, C, H, W).",
        "Conv2DTranspose": "Use nn.ConvTranspose2d(inputs, outputs, kernel_size).",
        "MaxPooling1D": "Use nn.MaxPool1d(kernel_size).",
        "MaxPooling2D": "Use nn.MaxPool2d(kernel_size).",
        "AveragePooling2D": "Use nn.AvgPool2d(kernel_size).",
        "GlobalAveragePooling2D": "Use nn.AdaptiveAvgPool2d(1), nn.Flatten().",
        "GlobalMaxPooling2D": "Use nn.AdaptiveMaxPool2d(1), nn.Flatten().",
        "UpSampling2D": "Use nn.Upsample(scale_factor=2).",
        "ZeroPadding2D": "Use nn.ZeroPad2d(padding), or the layer's padding=.",
        "Bidirectional": "Use nn.LSTM(inputs, hidden, bidirectional=True).",
        "MultiHeadAttention": "Use nn.MultiheadAttention(embed_dim, num_heads, batch_first=True).",
    },
    "torch": {
        "Sequential": "Use nn.Sequential.",
        "Model": "Write a class with forward: class Net(nn.Module); or nn.Sequential(...).",
        "keras": "The names are PyTorch's: from chainrule import nn, optim; docs/tutorials/from-keras.md.",
        "layers": "Layers are in chainrule.nn: nn.Linear(inputs, outputs).",
        "models": "Models are nn.Sequential(...) and classes of nn.Module; they are saved by cr.save_model, read by cr.load_model.",
        "losses": "Losses are in chainrule.nn.functional; a Trainer takes their names.",
        "metrics": "A Trainer takes their names: metrics=['accuracy'].",
        "optimizers": "Optimizers are in chainrule.optim; a Trainer takes their names.",
        "regularizers": _DECAY,
        "initializers": _INIT,
        "datasets": "Use cr.data.load('digits'), or arrays of your own.",
    },
    "tools": {
        "to_categorical": "Leave it out: 'cross_entropy' takes class numbers; cr.nn.functional.one_hot makes rows of them.",
        "set_random_seed": "Use cr.manual_seed(seed), and fit(seed=...).",
        "plot_model": "Use print(nn.summary(model, (1, inputs))), or trainer.report(path).",
        "Sequence": "Use utils.data.Dataset, whose items are rows; or give fit a function that makes batches.",
        "PyDataset": "Use utils.data.Dataset, whose items are rows; or give fit a function that makes batches.",
    },
    "optim": {"Nadam": "Use optim.NAdam."},
    "lr_scheduler": {
        "ExponentialDecay": "Use ExponentialLR(optimizer, gamma).",
        "CosineDecay": "Use CosineAnnealingLR(optimizer, T_max).",
        "CosineDecayRestarts": "Use CosineAnnealingWarmRestarts(optimizer, T_0).",
        "PiecewiseConstantDecay": "Use MultiStepLR(optimizer, milestones).",
        "PolynomialDecay": "Use PolynomialLR(optimizer, total_iters).",
        "InverseTimeDecay": "Use LambdaLR(optimizer, factor).",
    },
    "Optimizer": {"lr": _RATE, "learning_rate": _RATE},
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
        "save": "Use cr.save_model(model, path).",
        "layers": "Use list(model.children()); one of a Sequential is model[0].",
        "get_layer": "Use model.get_submodule(name).",
        "weights": "Use list(model.parameters()).",
        "trainable": "Use layer.requires_grad_(False) to freeze it, layer.requires_grad_(True) to train it.",
        "trainable_weights": "Use [p for p in model.parameters() if p.requires_grad].",
        "trainable_variables": "Use [p for p in model.parameters() if p.requires_grad].",
        "count_params": "Use sum(p.numel() for p in model.parameters()), or print(nn.summary(model, (1, inputs))).",
        "train_on_batch": "Use a step of your own with cr.compile, or cr.Trainer(model, loss, optimizer).fit(X, y).",
        "build": "Leave it out: a layer knows its inputs; lazy ones find them at the first model(x).",
    },
    "Trainer": {
        "stop_training": "Call trainer.stop(), which ends the training after the current epoch.",
        "lr": _RATE.replace("optimizer.", "trainer.optimizer."),
        "learning_rate": _RATE.replace("optimizer.", "trainer.optimizer."),
        "scheduler": "Give it to Trainer(scheduler=...).",
        "compile": "Leave it out: Trainer(model, loss, optimizer, metrics=[...]) is the compiled model.",
        "summary": "Use print(nn.summary(trainer.model, (1, inputs))).",
        "layers": "Use list(trainer.model.children()).",
        "get_weights": "Use trainer.model.state_dict().",
        "set_weights": "Use trainer.model.load_state_dict(state).",
        "save_weights": "Use cr.save(trainer.model.state_dict(), path).",
        "load_weights": "Use trainer.model.load_state_dict(cr.load(path)).",
        "train_on_batch": "Use fit, or a step of your own with cr.compile.",
        "fit_generator": "Use fit, which takes generators.",
    },
    "History": {
        "history": "Use history['loss']: it is the mapping itself; history.to_pandas() is a table.",
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
_CLIP = "Use Trainer(max_norm=...), or nn.utils.clip_grad_norm_ in a step of your own."
#: And what there is in place of those that no function has.
ELSEWHERE = {
    "activation": _BEHIND, "nonlinearity": _BEHIND, "kernel_initializer": _INIT, "bias_initializer": _INIT, "init": _INIT,
    "kernel_regularizer": _DECAY, "bias_regularizer": _DECAY, "activity_regularizer": _DECAY, "clipnorm": _CLIP, "clipvalue": _CLIP,
    "global_clipnorm": _CLIP, "input_shape": "Leave it out: a layer knows its inputs by in_features, and nn.LazyLinear finds them.",
    "trainable": "Use layer.requires_grad_(False).", "name": "Leave it out: a layer is called as the attribute that holds it.",
    "from_logits": "Losses say in their names what they read: cross_entropy takes logits, nll_loss log-probabilities.",
    "monitor": "Leave it out: a Trainer gives val_loss, or loss where nothing is validated; in a loop of your own it is step's argument.",
    "append": "Leave it out: what goes on (resume, checkpoint) goes on with its file, and a new training begins a new one.",
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
