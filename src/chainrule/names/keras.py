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
