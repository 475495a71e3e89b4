# SPDX-License-Identifier: Apache-2.0
"""The Gaussians of a prediction as arrays, in the world and the unit of its depth and poses."""

from dataclasses import dataclass, fields, replace

import numpy as np

from da3_core.geometry.quaternions import quaternion_from_rotation
from da3_core.geometry.similarity import Similarity
from da3_core.prediction import Prediction


@dataclass(frozen=True, eq=False)
class GaussianArrays:
    """`G` Gaussians, float32: `means` and `scales` `(G, 3)`, `rotations` `(G, 4)` scalar first, `harmonics`
    `(G, 3, d)`, `opacities` `(G,)`."""

    means: np.ndarray
    scales: np.ndarray
    rotations: np.ndarray
    harmonics: np.ndarray
    opacities: np.ndarray

    def transformed(self, similarity: Similarity) -> "GaussianArrays":
        """Moved as bodies; their colours stay those of the old directions, exact for harmonics of degree 0."""
        x, y, z, w = quaternion_from_rotation(similarity.rotation)
        # Left factor of the quaternion product, scalar first.
        product = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
        return replace(
            self,
            means=similarity.apply(self.means).astype(np.float32),
            scales=(self.scales * similarity.scale).astype(np.float32),
            rotations=(self.rotations @ product.T).astype(np.float32),
        )

    def finite(self) -> np.ndarray:
        """`(G,)` bool."""
        values = [getattr(self, field.name) for field in fields(self)]
        return np.asarray(np.all([np.isfinite(v.reshape(len(v), -1)).all(axis=1) for v in values], axis=0))


def gaussian_arrays(prediction: Prediction, *, in_network_frame: bool = False) -> GaussianArrays:
    """The Gaussians in the prediction's world, or where the network put them."""
    source = prediction.gaussians
    assert source is not None
    arrays = GaussianArrays(
        *(getattr(source, field.name)[0].detach().float().cpu().numpy() for field in fields(GaussianArrays))
    )
    return arrays if in_network_frame else arrays.transformed(world_from_network(prediction))


def world_from_network(prediction: Prediction) -> Similarity:
    """From the frame and the unit of the Gaussians to those of the prediction's depth and poses.

    A nested model scales these into metres. Given poses change both; `aux["world_from_gaussians"]` then tells how.
    """
    metres = Similarity(prediction.scale_factor or 1.0, np.eye(3), np.zeros(3))
    world: Similarity = prediction.aux.get("world_from_gaussians", metres)
    return world
