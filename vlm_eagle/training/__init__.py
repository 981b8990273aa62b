"""Training-time test, losses, optimizers, the training loop."""
