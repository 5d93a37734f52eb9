"""Image models in integers alone: TensorFlow Lite finds sane scales, and answers stay alike."""

import numpy as np
import pytest
import tensorflow as tf

import zoo

SMALL = {"channels": (8, 16, 16, 32), "num_classes": 16}
MODELS = {
    "resnet10t": SMALL | {"stem_width": 8},
    "resnet18": SMALL | {"layers": (1, 1, 1, 1), "stem_width": 8},  # a stem of 7 x 7
    "seresnet18": SMALL | {"layers": (1, 1, 1, 1), "stem_width": 8},
    "resnetv2_50x1_bit": {"layers": (1, 1, 1, 1), "channels": (128,) * 4, "num_classes": 16},
}


# of tf.lite, which goes elsewhere, and that its inputs stay floating
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_integers_of_a_padded_max_pool(name):
    tf.keras.utils.set_random_seed(0)
    model = zoo.load(name, pretrained=False, input_size=64, **MODELS[name])
    rng = np.random.default_rng(0)
    # the stem's outputs below zero, too, where the border decides what a maximum is
    batches = [rng.normal(size=(1, 64, 64, 3)).astype(np.float32) for _ in range(8)]
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x] for x in batches)
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    details = interpreter.get_tensor_details()
    assert max(d["quantization"][0] for d in details) < 1e3
    interpreter.allocate_tensors()
    assert np.corrcoef(_answers(interpreter, batches), _flat(model, batches))[0, 1] > 0.9


def _answers(interpreter, batches):
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for x in batches:
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(wanted["index"]))
    return np.ravel(answers)


def _flat(model, batches):
    return np.ravel([model(x, training=False) for x in batches])
