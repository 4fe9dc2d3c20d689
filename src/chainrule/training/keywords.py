"""What keywords of other libraries' ``fit``, ``evaluate`` and ``predict`` are called here."""

from __future__ import annotations

from typing import Final

_DATA: Final = {
    "x": "The rows are X.",
    "data": "The rows are X.",
    "targets": "The targets are y.",
    "labels": "The targets are y.",
}
FIT: Final = {
    **_DATA,
    "verbose": "Use progress=False for silence, progress=True for a bar.",
    "nb_epoch": "Use epochs.",
    "n_epochs": "Use epochs.",
    "num_epochs": "Use epochs.",
    "max_epochs": "Use epochs.",
    "random_state": "Use seed.",
    "eval_set": "Use validation_data=(X, y).",
    "lr": "The learning rate is the optimizer's.",
    "sample_weights": "Use sample_weight.",
    "class_weights": "Use class_weight.",
    "validation_freq": "Validation data are measured after every epoch: leave it out.",
    "validation_steps": "All rows of validation_data are measured: leave it out; a stream ends by itself, as lambda: itertools.islice(batches(), 100) does.",
    "accumulate_grad_batches": "Use micro_batches, and for batch_size that of the whole batch.",
    "gradient_accumulation_steps": "Use micro_batches, and for batch_size that of the whole batch.",
    "initial_epoch": "Use resume=True, which goes on where the training stands.",
    "criterion": "The loss is the Trainer's: Trainer(model, loss=...).",
    "loss": "The loss is the Trainer's: Trainer(model, loss=...).",
    "metrics": "The metrics are the Trainer's: Trainer(model, loss, optimizer, metrics=[...]).",
    "validation_batch_size": "Validation has batches of its own size: leave it out.",
    "workers": "A loader has them: utils.data.DataLoader(dataset, num_workers=...).",
    "use_multiprocessing": "A loader has workers: utils.data.DataLoader(dataset, num_workers=...).",
    "max_queue_size": "Data are read ahead by themselves: leave it out.",
    "optimizer": "The optimizer is the Trainer's: Trainer(model, loss, optimizer).",
}
TRAINER: Final = {
    "criterion": "Use loss.",
    "loss_fn": "Use loss.",
    "optim": "Use optimizer.",
    "learning_rate": "Use lr, beside an optimizer by its name.",
    "epochs": "Give it to fit.",
    "batch_size": "Give it to fit.",
    "callbacks": "Give them to fit.",
    "device": "There is only the CPU here: leave it out.",
    "weighted_metrics": "Metrics count every row once, whatever it weighs in the loss: use metrics.",
    "run_eagerly": "Steps are always compiled: leave it out, and look into one with record=True.",
    "clipnorm": "Use max_norm.",
}
CHECKPOINT: Final = {
    "filepath": "Use folder: files are named in it.",
    "path": "Use folder: files are named in it.",
    "save_best_only": "Use save='best'.",
    "save_weights_only": "Leave it out: save='best' writes the weights, save='last' the whole training.",
    "save_freq": "Use every= for epochs, or seconds=.",
    "verbose": "Leave it out: a file is written in silence.",
}
STOPPING: Final = {"verbose": "Leave it out: stopped_epoch says when it ended."}
MEASURE: Final = {
    **_DATA,
    "verbose": "Nothing is shown: leave it out.",
    "return_dict": "evaluate gives a dict: leave it out.",
    "steps": "All rows are used: leave it out; a stream ends by itself, as lambda: itertools.islice(batches(), 100) does.",
}
