"""A BERT encoder's weights as an ONNX graph: tokens in, one vector a text out.

Built from the weights as they lie, so that neither torch nor an exported copy is needed to serve them. Only for the
classical architecture, which most sentence encoders have; `bert_layout` says which folders hold it.
Sources: Devlin et al. 2019 (BERT); Reimers and Gurevych 2019 (pooling); Jacob et al. 2018 (products of whole numbers);
onnx.ai/onnx/operators (version 20).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rheostat.router.bert_layout import FIRST, Layout

if TYPE_CHECKING:
    from onnx import ModelProto

Matrix = npt.NDArray[np.float32]
Weights = Mapping[str, Matrix]

IDS, MASK, VECTORS = "ids", "mask", "vectors"
_VERSION, _FORMAT = 20, 10  # of the operators and of the file; Gelu is an operator since 20
_MASKED = np.float32(-1e9)  # added to what attention must not see
# Weights in whole steps. With eight bits the sum of two products would not fit the 16 bits that processors without VNNI give it,
# and vectors would differ from machine to machine.
_STEPS = 63
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of normalisations, in weights from TensorFlow


def graph(weights: Weights, its: Layout, *, whole_numbers: bool = False) -> ModelProto:
    """The model with inputs `ids` and `mask`, both (n, t), and the output `vectors`, (n, d), of no particular length.

    Args:
        weights: by name.
        its: layout.
        whole_numbers: multiply by weights of a byte in place of four. What they are multiplied with is then rounded to
            steps that depend on all texts of a batch.

    Raises:
        KeyError: a weight is missing.
    """
    from onnx import TensorProto, checker, helper

    made = _Graph({_named(name): array for name, array in weights.items()}, its, whole_numbers=whole_numbers)
    names = [IDS, MASK]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in names]
    outputs = [helper.make_tensor_value_info(made.vectors(), TensorProto.FLOAT, ["n", "d"])]
    model = helper.make_model(
        helper.make_graph(made.nodes, "encoder", inputs, outputs, initializer=made.constants),
        opset_imports=[helper.make_opsetid("", _VERSION)],
        ir_version=_FORMAT,
    )
    checker.check_model(model)
    return model


def _named(name: str) -> str:
    stem, _, last = name.removeprefix("bert.").rpartition(".")
    return f"{stem}.{_OLD_NAMES.get(last, last)}"


class _Graph:
    """Nodes in the order in which they run; methods give the name of what they compute."""

    def __init__(self, weights: Weights, its: Layout, *, whole_numbers: bool) -> None:
        self._weights = weights
        self._its = its
        self._product = self._whole_product if whole_numbers else self._exact_product
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def vectors(self) -> str:
        hidden = self._embedded()
        unseen = self._unseen()
        for number in range(self._its.n_layers):
            hidden = self._layer(f"encoder.layer.{number}", hidden, unseen)
        return self._pooled(hidden)

    def _embedded(self) -> str:
        """Words, places and the one type of text there is."""
        words = self._op("Gather", self._weight("embeddings.word_embeddings.weight"), IDS)
        places = self._weights["embeddings.position_embeddings.weight"] + self._weights["embeddings.token_type_embeddings.weight"][0]
        length = self._op("Shape", IDS, start=1, end=2)
        here = self._op("Slice", self._constant(places), self._ints([0]), length, self._ints([0]))
        return self._normalised("embeddings.LayerNorm", self._op("Add", words, here))

    def _unseen(self) -> str:
        """(n, 1, 1, t) what is added to the scores of tokens that only fill a row up."""
        seen = self._op("Unsqueeze", self._op("Cast", MASK, to=1), self._ints([1, 2]))
        return self._op("Mul", self._op("Sub", self._constant(np.float32(1)), seen), self._constant(_MASKED))

    def _layer(self, name: str, hidden: str, unseen: str) -> str:
        told = self._linear(f"{name}.attention.output.dense", self._attended(f"{name}.attention.self", hidden, unseen))
        hidden = self._normalised(f"{name}.attention.output.LayerNorm", self._op("Add", told, hidden))
        inner = self._op("Gelu", self._linear(f"{name}.intermediate.dense", hidden))
        return self._normalised(f"{name}.output.LayerNorm", self._op("Add", self._linear(f"{name}.output.dense", inner), hidden))

    def _attended(self, name: str, hidden: str, unseen: str) -> str:
        """Attention of all heads, side by side; queries, keys and values are one product."""
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._weights[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        all_three = self._op("Add", self._product(hidden, weight), self._constant(bias))
        query, key, value = (self._heads(part) for part in self._ops("Split", 3, all_three, axis=2, num_outputs=3))
        size = len(bias) // 3 // self._its.n_heads
        scores = self._op("MatMul", query, self._op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self._op("Add", self._op("Mul", scores, self._constant(np.float32(size**-0.5))), unseen)
        told = self._op("MatMul", self._op("Softmax", scores, axis=-1), value)
        return self._op("Reshape", self._op("Transpose", told, perm=[0, 2, 1, 3]), self._ints([0, 0, -1]))

    def _heads(self, part: str) -> str:
        """(n, h, t, d / h) of (n, t, d)."""
        return self._op("Transpose", self._op("Reshape", part, self._ints([0, 0, self._its.n_heads, -1])), perm=[0, 2, 1, 3])

    def _pooled(self, hidden: str) -> str:
        if self._its.pooling == FIRST:
            return self._op("Gather", hidden, self._constant(np.int64(0)), axis=1, into=VECTORS)
        seen = self._op("Unsqueeze", self._op("Cast", MASK, to=1), self._ints([2]))
        total = self._op("ReduceSum", self._op("Mul", hidden, seen), self._ints([1]), keepdims=0)
        return self._op("Div", total, self._op("ReduceSum", seen, self._ints([1]), keepdims=0), into=VECTORS)

    def _linear(self, name: str, hidden: str) -> str:
        return self._op("Add", self._product(hidden, self._weights[f"{name}.weight"].T), self._weight(f"{name}.bias"))

    def _exact_product(self, hidden: str, weight: Matrix) -> str:
        return self._op("MatMul", hidden, self._constant(weight))

    def _whole_product(self, hidden: str, weight: Matrix) -> str:
        """The product of whole numbers, scaled back; weights have a step a column, what they are multiplied with has one in all."""
        step = np.maximum(np.abs(weight).max(axis=0) / _STEPS, np.finfo(np.float32).tiny)
        whole = self._constant(np.rint(weight / step).astype(np.int8))
        rounded, its_step, zero = self._ops("DynamicQuantizeLinear", 3, hidden)
        total = self._op("Cast", self._op("MatMulInteger", rounded, whole, zero), to=1)
        return self._op("Mul", total, self._op("Mul", its_step, self._constant(step)))

    def _normalised(self, name: str, hidden: str) -> str:
        parts = (self._weight(f"{name}.{part}") for part in ("weight", "bias"))
        return self._op("LayerNormalization", hidden, *parts, axis=-1, epsilon=self._its.epsilon)

    def _weight(self, name: str) -> str:
        return self._constant(self._weights[name])

    def _ints(self, values: Sequence[int]) -> str:
        return self._constant(np.array(values, np.int64))

    def _constant(self, value: npt.ArrayLike) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def _op(self, kind: str, *inputs: str, into: str | None = None, **attributes: Any) -> str:
        return self._ops(kind, 1, *inputs, into=into, **attributes)[0]

    def _ops(self, kind: str, n_outputs: int, *inputs: str, into: str | None = None, **attributes: Any) -> list[str]:
        from onnx import helper

        outputs = [into or f"n{len(self.nodes)}.{number}" for number in range(n_outputs)]
        self.nodes.append(helper.make_node(kind, [*inputs], outputs, **attributes))
        return outputs
