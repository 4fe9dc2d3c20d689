"""What leaves a training: files of tensors and models, bundles that predict from plain rows."""
