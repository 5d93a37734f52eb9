"""Where a network looks: attention maps, attention rollout and Grad-CAM.

Rollout is that of Abnar and Zuidema, arXiv:2005.00928, section 3; Grad-CAM that of Selvaraju et
al., arXiv:1610.02391, equations 1 and 2. Both give one number per patch or per position of a map,
and are enlarged to the model's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import keras
import numpy as np
from PIL import Image

from zoo.errors import OptionError, TaskError, did_you_mean
from zoo.layers.attention import recording
from zoo.layers.offers import Attends, CutsPatches, LearnsTokens, PoolsMap, PoolsTokens
from zoo.options import plain
from zoo.preprocessing.spec import ImageSpec
from zoo.registry.heads import MULTI_LABEL, SINGLE_LABEL
from zoo.tasks.base import TaskModel
from zoo.tasks.classification import HostTask
from zoo.tasks.graphs import graph_function, remembered

GRAD_CAM, ROLLOUT = "grad-cam", "attention-rollout"
METHODS = (GRAD_CAM, ROLLOUT)
LEAST = 4  # rows and columns that a map of Grad-CAM should have
_HIGHEST = -1  # instead of a class: the one that scores highest


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMaps:
    """The weights of every attention layer of a network.

    Attributes:
        maps: float32 `[n, heads, t, s]` for each layer, in the order they run: how much each of
            `t` tokens reads from each of `s`. Each row sums to 1. Pooling by attention is the last
            one, with `t` of 1. Differential attention has two maps in each block, of which the
            network takes the first less lambda times the second.
        prefix: number of learned tokens, which come before the patches.
        grid: rows and columns of the patches, which come row by row.
    """

    maps: tuple[np.ndarray, ...]
    prefix: int
    grid: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What an image's classification rests on.

    Attributes:
        method: `grad-cam` or `attention-rollout`.
        heatmap: float32 `[height, width]` over the model's input, from 0 to 1; 1 is the greatest
            heat of this image. All zero where nothing speaks for the class.
        label, index: the class; None where the network has none, and no label where it is unknown.
        score: probability of that class, 0 to 1.
    """

    method: str
    heatmap: np.ndarray
    label: str | None = None
    index: int | None = None
    score: float | None = None


class Explaining(HostTask):
    """The verbs of image tasks that show where a network looks."""

    verbs: ClassVar[tuple[str, ...]] = ("attention_maps", "explain")

    def attention_maps(self, images: Any, *, batch_size: int = 32) -> AttentionMaps:
        """The weights of every attention layer.

        They are many: 22 MB per image for `vit_base_patch16_224`.

        Args:
            images: one image or a sequence of them, in any form that `preprocess` takes.
            batch_size: images per pass.

        Raises:
            TaskError: the network has no attention.
            InputError: an input that is no image.
        """
        model, preprocess = self.model, self.preprocess
        if (tokens := _last(model, LearnsTokens)) is None:
            raise TaskError(
                f"{model.name!r} has no attention, so there are no maps of it. "
                f"explain() shows where a convolutional network looks, by {GRAD_CAM}."
            )
        run = remembered(model, "attention", lambda: _recorder(model))
        batches = self.batches(self.items(images), batch_size, "attention_maps")
        passes = [[np.asarray(m) for m in run(preprocess(batch))] for batch in batches]
        if not passes:
            passes = [[np.asarray(m) for m in run(preprocess([]))]]
        return AttentionMaps(
            maps=tuple(np.concatenate(layer) for layer in zip(*passes, strict=True)),
            prefix=tokens.learned_tokens,
            grid=_grid(model, preprocess.spec),
        )

    def explain(
        self,
        images: Any,
        method: str | None = None,
        target: int | str | None = None,
        *,
        batch_size: int = 32,
    ) -> list[Explanation]:
        """Heat maps of what the network looks at, one for each image.

        `grad-cam`, for convolutional networks, shows what speaks for a class: the last map of
        features, each weighted by the mean gradient of the class's logit. Where that map has fewer
        than 4 rows or columns, as with small images, it is the last map that has them. Of a network
        without classes it shows what makes the features `embed` gives long, which is where the
        image is most like its own embedding.

        `attention-rollout`, for Vision Transformers, follows the tokens that are read out back
        through all blocks to the patches that they come from. It is the same for every class; the
        one reported is the one that scores highest. Its least heat is shown as 0, since each patch
        gets a share by the residual connections alone.

        Args:
            images: one image or a sequence of them, in any form that `preprocess` takes.
            method: None takes the one that suits the network.
            target: class for `grad-cam`: its index, its label, or one of the names in the label;
                None is the highest-scoring one of each image.
            batch_size: images per pass.

        Raises:
            OptionError: a method that does not suit the network, or a class that it does not have.
            TaskError: neither method suits it.
            InputError: an input that is no image.
        """
        model, preprocess = self.model, self.preprocess
        method = _method(model, method)
        index = self._target(method, target)
        explainer, problem = _EXPLAINERS[method], self.problem
        run = remembered(model, method, lambda: explainer(model, preprocess.spec, problem))
        found: list[Explanation] = []
        for batch in self.batches(self.items(images), batch_size, "explain"):
            found.extend(self._explanations(method, run(preprocess(batch), index)))
        return found

    def _target(self, method: str, target: int | str | None) -> Any:
        """The class as a tensor: a number would be traced anew for each."""
        index = _HIGHEST
        if target is not None:
            if method != GRAD_CAM:
                raise OptionError(
                    f"target={target!r} was given, and {method} is the same for every class. Leave "
                    "it out."
                )
            if self.problem is None:
                raise OptionError(
                    f"target={target!r} was given, and {self.model.name!r} has no classes. Leave "
                    "it out."
                )
            index = class_index(target, self.model.labels, self.model.output_shape[-1])
        return keras.ops.convert_to_tensor(index, "int32")

    def _explanations(self, method: str, results: Sequence[Any]) -> Iterator[Explanation]:
        """From raw heat `[n, rows, columns]`, classes `[n]` and scores `[n]`, perhaps None."""
        spec, labels = self.preprocess.spec, self.model.labels
        covered = _covered(self.model, spec) if method == ROLLOUT else spec.input_size
        values: list[Any] = [r if r is None else r.numpy() for r in results]
        heat, indices, scores = values
        for i, raw in enumerate(heat):
            heatmap = _scaled(_enlarged(raw, covered, spec.input_size), method)
            if indices is None:
                yield Explanation(method=method, heatmap=heatmap)
                continue
            index, score = int(indices[i]), float(scores[i])
            label = None if labels is None else labels[index]
            yield Explanation(method=method, heatmap=heatmap, label=label, index=index, score=score)


def class_index(target: int | str, labels: Sequence[str] | None, count: int) -> int:
    """The index of a class.

    Args:
        target: the index itself, a label, or one of the names that a label lists between commas,
            whatever their case.
        labels: of all classes, if known.
        count: number of classes.

    Raises:
        OptionError: there is no such class, or more than one.
    """
    if not isinstance(target, str):
        index = plain(target)
        if isinstance(index, bool) or not isinstance(index, int):
            raise OptionError(f"target={target!r} is neither the index nor the label of a class.")
        if not 0 <= index < count:
            raise OptionError(f"target={index}; the classes are 0 to {count - 1}.")
        return index
    if labels is None:
        raise OptionError(
            f"target={target!r} is a label, and the model's labels are not known. Give the index "
            "of the class, or load the model with labels=[...]."
        )
    found = [i for i, label in enumerate(labels) if label == target]
    found = found or [i for i, label in enumerate(labels) if target.lower() in _names(label)]
    if len(found) > 1:
        raise OptionError(
            f"target={target!r} is the name of {len(found)} classes, {', '.join(map(str, found))}: "
            "give the index of one."
        )
    if not found:
        near = did_you_mean(target, labels)
        raise OptionError(f"target={target!r} is no label of the model's {count} classes.{near}")
    return found[0]


def _names(label: str) -> list[str]:
    return [name.strip().lower() for name in label.split(",")]


def seen_box(spec: ImageSpec, width: int, height: int) -> tuple[float, float, float, float]:
    """The part of a picture that becomes the model's input.

    Args:
        width, height: of the upright picture, in pixels.

    Returns:
        Left, top, right and bottom in pixels of the picture; outside of it where preprocessing
        pads.
    """
    rows, columns = (float(edge) for edge in spec.resized_size(float(height), float(width), np))
    top, left = (float(edge) for edge in spec.crop_offset(rows, columns, np))
    across, down = width / columns, height / rows
    bottom, right = top + spec.input_size[0], left + spec.input_size[1]
    return left * across, top * down, right * across, bottom * down


# ---------------------------------------------------------------- what suits a network


def _method(model: TaskModel, method: str | None) -> str:
    """The method that suits a network.

    Raises:
        OptionError: another one was asked for.
        TaskError: there is none.
    """
    if method is not None and method not in METHODS:
        raise OptionError(
            f"method={method!r} is not known; known are {', '.join(METHODS)}."
            f"{did_you_mean(str(method), METHODS)}"
        )
    if model.feature_info is not None:
        raise TaskError(
            f"{model.name!r} was loaded with features_only and gives maps, of which nothing is "
            "read out. Load it with its classes, or with num_classes=0."
        )
    suited = _suited(model)
    if method not in (None, suited):
        raise OptionError(f"method={method!r} is not for {model.name!r}; {suited!r} is.")
    return suited


def _suited(model: TaskModel) -> str:
    if _last(model, PoolsMap) is not None:
        return GRAD_CAM
    if _last(model, LearnsTokens) is None:
        raise TaskError(
            f"{model.name!r} has neither a pooled map of features, as {GRAD_CAM} needs, nor "
            f"patches with attention, as {ROLLOUT} does."
        )
    if any(layer.signed_attention for layer in _attending(model)):
        raise TaskError(
            f"{model.name!r} has differential attention, whose weights may be negative: "
            f"{ROLLOUT} is not defined for them. attention_maps() gives both maps of each block."
        )
    return ROLLOUT


def _last(model: TaskModel, offer: type) -> Any:
    """The last layer that offers this, not counting those inside of blocks; None: there is none."""
    return next((layer for layer in reversed(model.layers) if isinstance(layer, offer)), None)


def _attending(model: TaskModel) -> list[Any]:
    """The layers with attention inside, in the order they run."""
    return [layer for layer in model.layers if isinstance(layer, Attends)]


def _grid(model: TaskModel, spec: ImageSpec) -> tuple[int, int]:
    """Rows and columns of the patches."""
    patches = _last(model, CutsPatches)
    _, rows, columns, _ = patches.compute_output_shape((None, *spec.input_size, spec.channels))
    return rows, columns


def _covered(model: TaskModel, spec: ImageSpec) -> tuple[int, int]:
    """Height and width of all patches: less than the input's where they leave a rest out."""
    patch = _last(model, CutsPatches).patch
    rows, columns = _grid(model, spec)
    return rows * patch, columns * patch


# ---------------------------------------------------------------- compiled passes


def _part(model: TaskModel, *extra: Any) -> keras.Model:
    """The model's graph, with more outputs before its own."""
    return keras.Model(model.inputs, [*extra, *model.outputs])


def _recorder(model: TaskModel) -> Any:
    """Images to the weights of all attention layers, float32."""
    import tensorflow as tf

    part = _part(model)

    def run(images):
        with recording() as maps:
            part(images, training=False)
        return [tf.cast(weights, tf.float32) for weights in maps]

    return graph_function(run)


def _classified(problem: str, outputs: Any, target: Any) -> tuple[Any, Any]:
    """The class `[n]` of each row of logits and its probability `[n]`; see `_HIGHEST`."""
    import tensorflow as tf

    highest = tf.argmax(outputs, -1, output_type=tf.int32)
    index = tf.where(target == _HIGHEST, highest, target)
    scores = {SINGLE_LABEL: tf.nn.softmax, MULTI_LABEL: tf.nn.sigmoid}.get(problem)
    return index, tf.gather(scores(outputs) if scores else outputs, index, batch_dims=1)


# ---------------------------------------------------------------- attention rollout


def _rollout(model: TaskModel, spec: ImageSpec, problem: str | None) -> Any:
    """From images and a class, which is not read, to heat `[n, rows, columns]`, classes, scores."""
    import tensorflow as tf

    part, grid = _part(model), _grid(model, spec)
    pool, prefix = _last(model, PoolsTokens), _last(model, LearnsTokens).learned_tokens
    layers = _attending(model)

    def run(images, target):
        with recording() as maps:
            outputs = part(images, training=False)
        means = iter([tf.reduce_mean(tf.cast(weights, tf.float32), 1) for weights in maps])
        own = {layer.name: list(islice(means, layer.attention_maps)) for layer in layers}
        pooled = own.pop(pool.name, [])
        shares = pool.token_shares(pooled, tf.shape(maps[0])[-1])
        for block in reversed(own.values()):
            shares = _back_through(block, shares)
        heat = tf.reshape(shares[:, prefix:], (-1, *grid))
        found = (None, None)
        if problem:
            found = _classified(problem, tf.cast(outputs, tf.float32), target)
        return heat, *found

    return graph_function(run)


def _back_through(maps: list[Any], shares: Any) -> Any:
    """Shares of the tokens `[n, t]` after a block to those before it.

    The matrix of a block is the sum of its maps `[n, t, t]` and the identity, for the residual
    connection, with rows normalised. Rows go through it from the last block back, which takes t^2
    products where the matrices themselves take t^3.
    """
    import tensorflow as tf

    mixed = sum(maps)
    shares = shares / (1 + tf.reduce_sum(mixed, -1))
    return shares + tf.linalg.matvec(mixed, shares, transpose_a=True)


# ---------------------------------------------------------------- Grad-CAM


def _grad_cam(model: TaskModel, spec: ImageSpec, problem: str | None) -> Any:
    """From images and a class to heat `[n, rows, columns]`, classes, scores; see `_HIGHEST`."""
    import tensorflow as tf

    part = _part(model, _explained_map(model, spec))

    def run(images, target):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)  # the map is made of them, so what follows it is recorded
            features, outputs = part(images, training=False)
            outputs = tf.cast(outputs, tf.float32)
            if problem:
                found = _classified(problem, outputs, target)
                score = tf.gather(outputs, found[0], batch_dims=1)
            else:
                found, score = (None, None), tf.norm(outputs, axis=-1)
        slopes = tf.cast(tape.gradient(score, features), tf.float32)
        weights = tf.reduce_mean(slopes, (1, 2), keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(features, tf.float32), -1))
        return heat, *found

    return graph_function(run)


def _explained_map(model: TaskModel, spec: ImageSpec) -> Any:
    """The last map before pooling with `LEAST` rows and columns, or the first map if none has."""
    pool = _last(model, PoolsMap)
    before = model.layers[1 : model.layers.index(pool)]
    tensors = [layer.output for layer in before if len(layer.output.shape) == 4]
    sizes = keras.Model(model.inputs, tensors).compute_output_shape(
        (None, *spec.input_size, spec.channels)
    )
    pairs = list(zip(tensors, sizes, strict=True))
    return next((tensor for tensor, s in reversed(pairs) if min(s[1:3]) >= LEAST), tensors[0])


_EXPLAINERS = {GRAD_CAM: _grad_cam, ROLLOUT: _rollout}


# ---------------------------------------------------------------- heat maps


def _enlarged(heat: np.ndarray, covered: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Heat `[rows, columns]` over `covered` pixels to `size`, both height and width.

    Pixels that it does not cover, at the right and the bottom, repeat the last ones.
    """
    height, width = covered
    picture = Image.fromarray(heat.astype(np.float32))
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    pixels = pixels[: size[0], : size[1]]
    rest = [(0, edge - had) for edge, had in zip(size, pixels.shape, strict=True)]
    return np.pad(pixels, rest, mode="edge")


def _scaled(heat: np.ndarray, method: str) -> np.ndarray:
    """Heat from 0 to 1; see `Explaining.explain` for what is 0."""
    least = heat.min() if method == ROLLOUT else np.float32(0)
    heat = np.maximum(heat - least, 0)
    return heat / heat.max() if heat.max() > 0 else heat
