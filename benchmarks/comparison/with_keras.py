"""Keras 3 on JAX: `compile`, `fit`, and its callback that backs a training up."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
from small_job import (
    BATCH_SIZE,
    NUM_CLASSES,
    NUM_FEATURES,
    NUM_HIDDEN,
    RATE,
    arguments,
    data,
    end_of_epoch,
    finish,
)

# begin
directory, epochs = arguments()
x, y, x_valid, y_valid = data()
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input(shape=(NUM_FEATURES,)),
        keras.layers.Dense(NUM_HIDDEN, activation="relu"),
        keras.layers.Dense(NUM_CLASSES),
    ]
)
model.compile(
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    optimizer=keras.optimizers.AdamW(RATE, weight_decay=1e-4),
)
backup = keras.callbacks.BackupAndRestore(directory, delete_checkpoint=False)
ends = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: end_of_epoch())
model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0, callbacks=[backup, ends])
score = model.evaluate(x_valid, y_valid, batch_size=64, verbose=0)
# end
finish(model.get_weights(), score)
