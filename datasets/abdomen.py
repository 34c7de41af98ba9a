"""The phantom's abdomen: deformed ellipsoids, painted as Hounsfield units and labels.

Coordinates are the patient's: x to the right, y anterior, z superior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

CLASSES = (
    "aorta",
    "gallbladder",
    "left_kidney",
    "right_kidney",
    "liver",
    "pancreas",
    "spleen",
    "stomach",
)
_AIR, _GAS, _FAT, _CORD, _MARROW, _BONE = -1000.0, -850.0, -100.0, 35.0, 220.0, 600.0


@dataclass(frozen=True)
class Structure:
    """An ellipsoid of the abdomen, in half widths, depths and heights of its cavity.

    Attributes:
        name: What it is; labelled when it is one of the classes asked for.
        centre: Where it usually lies.
        semi_axes: Half lengths.
        hu: Without contrast, in the arterial and in the portal venous phase.
        bend: How far the ends curve backwards, per squared distance along x.
    """

    name: str
    centre: tuple[float, float, float]
    semi_axes: tuple[float, float, float]
    hu: tuple[float, float, float]
    bend: float = 0.0


# In painting order: what comes later covers what came before, so small organs survive.
_ANATOMY = (
    Structure("liver", (0.46, 0.10, 0.32), (0.50, 0.70, 0.72), (55, 72, 112)),
    Structure("liver", (0.06, 0.52, 0.42), (0.48, 0.30, 0.45), (55, 72, 112)),
    Structure("stomach", (-0.42, 0.42, 0.32), (0.34, 0.40, 0.58), (18, 20, 22)),
    Structure("spleen", (-0.76, -0.12, 0.42), (0.21, 0.44, 0.50), (48, 125, 118)),
    Structure("right_kidney", (0.50, -0.46, -0.28), (0.25, 0.33, 0.54), (33, 150, 185)),
    Structure("left_kidney", (-0.50, -0.44, -0.18), (0.25, 0.33, 0.54), (33, 150, 185)),
    Structure("inferior_vena_cava", (0.17, -0.20, 0.0), (0.12, 0.14, 9.0), (42, 75, 160)),
    Structure("pancreas", (-0.10, 0.10, 0.02), (0.52, 0.18, 0.34), (40, 100, 88), bend=0.9),
    Structure("aorta", (-0.09, -0.24, 0.0), (0.12, 0.16, 9.0), (44, 320, 165)),
    Structure("gallbladder", (0.44, 0.50, -0.20), (0.19, 0.26, 0.40), (10, 10, 12)),
)
# Drawn for whoever asks for their labels only: small, and nothing the eight organs need.
_MORE_ANATOMY = (
    Structure("esophagus", (-0.05, -0.04, 0.95), (0.09, 0.11, 0.50), (36, 48, 55)),
    Structure("portal_and_splenic_veins", (0.06, 0.02, 0.26), (0.34, 0.09, 0.13), (42, 90, 170)),
    Structure("right_adrenal_gland", (0.36, -0.34, 0.34), (0.10, 0.13, 0.20), (30, 62, 75)),
    Structure("left_adrenal_gland", (-0.36, -0.30, 0.40), (0.10, 0.13, 0.20), (30, 62, 75)),
)


def draw_abdomen(
    points: np.ndarray, rng: np.random.Generator, classes: tuple[str, ...] = CLASSES
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one patient.

    Args:
        points: Where to draw, (3, X, Y, Z), in half widths, depths and heights of the body.
        rng: What makes this patient.
        classes: What is labelled 1, 2, ..., CLASSES or more of the names below.

    Returns:
        HU (X, Y, Z) float32, without blur and noise, and labels (X, Y, Z) uint8.
    """
    painter = _Painter(_warp(points, rng), rng, classes)
    painter.paint_bowel()
    more = tuple(structure for structure in _MORE_ANATOMY if structure.name in classes)
    for structure in _ANATOMY + more:
        painter.paint_organ(structure)
    painter.paint_ribs()
    painter.paint_spine()
    return painter.hu, painter.label


def _warp(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Displace points (3, ...) smoothly by a few long waves."""
    displacement = np.zeros_like(points)
    for _ in range(4):
        waves = rng.normal(0, 2.2, (3, 3)).astype(np.float32)
        phases = rng.uniform(0, 2 * np.pi, (3, 1, 1, 1)).astype(np.float32)
        displacement += np.sin(np.einsum("ij,j...->i...", waves, points) + phases)
    return points + np.float32(0.022) * displacement


class _Painter:
    """A body of fat and muscle, and what is painted into it.

    Args:
        points: As for `draw_abdomen`, deformed.
        rng: Draws the contrast phase, the patient's build and all variations.
        classes: As for `draw_abdomen`.
    """

    def __init__(
        self, points: np.ndarray, rng: np.random.Generator, classes: tuple[str, ...]
    ) -> None:
        self._rng = rng
        self._values = {name: value for value, name in enumerate(classes, start=1)}
        self._phase = rng.dirichlet((0.2, 0.5, 1.2))
        self._muscle_hu = self._enhanced((52, 58, 64))
        under_skin = 1 - rng.uniform(0.06, 0.17)  # a share of the body's radius
        cavity = under_skin - rng.uniform(0.07, 0.10)
        radius = _superellipse_radius(points)
        self._points = points / np.array([cavity, cavity, 1], np.float32)[:, None, None, None]
        self._inside = radius < cavity
        self._wall = (radius < under_skin) & ~self._inside
        self.hu = np.where(radius < 1, np.float32(_FAT), np.float32(_AIR))
        self.hu[self._wall] = self._muscle_hu
        self.label = np.zeros(self.hu.shape, np.uint8)

    def paint_organ(self, structure: Structure) -> None:
        """Paint one structure, randomly moved, scaled and turned, over what is there."""
        local = self._local_points(structure)
        level = np.sqrt((local**2).sum(axis=0))
        mask = self._inside & (level < 1)
        self.label[mask] = self._values.get(structure.name, 0)
        self.hu[mask] = self._enhanced(structure.hu) + self._rng.normal(0, 6)
        if structure.name.endswith("kidney"):  # the renal pelvis stays darker
            self.hu[mask & (level < 0.4)] = self._enhanced((8, 30, 90))
        if structure.name == "liver":
            self._paint_cysts(mask, local)
        if structure.name == "stomach":  # an enhancing wall, and gas that rises to the front
            gas = local[1] > self._rng.uniform(0.3, 0.8)
            self.hu[mask & (level > 0.85)] = self._enhanced((40, 80, 75))
            self.hu[mask & (level < 0.85) & gas] = _GAS

    def paint_bowel(self) -> None:
        """Paint bowel loops, filled with fluid, gas or contrast medium, that carry no label."""
        for _ in range(10):
            low, high = (-0.75, -0.1, -1.1), (0.75, 0.75, 0.1)
            centre, semi_axes = self._rng.uniform(low, high), self._rng.uniform(0.12, 0.26, 3)
            local = self._local_points(
                Structure("bowel", tuple(centre), tuple(semi_axes), (0, 0, 0))
            )
            level = np.sqrt((local**2).sum(axis=0))
            contents = [_GAS, 180.0, self._rng.uniform(5, 60)]
            self.hu[self._inside & (level < 1)] = self._rng.uniform(35, 70)
            content = self._rng.choice(contents, p=[0.12, 0.08, 0.80])
            self.hu[self._inside & (level < 0.8)] = content

    def paint_ribs(self) -> None:
        """Paint ribs, which run obliquely down the body wall of the upper half."""
        x, y, z = self._points
        angle = np.arctan2(np.abs(x), -y)  # 0 at the back, the same on both sides
        wave = np.sin(7 * angle + 6 * z + self._rng.uniform(0, 2 * np.pi))
        is_rib = self._wall & (wave > 0.6) & (z > -0.2) & (angle > 0.4) & (angle < 2.3)
        self.hu[is_rib] = 0.6 * _BONE

    def paint_spine(self) -> None:
        """Paint back muscles, vertebral body, arch and canal over all but labelled organs."""
        x, y, z = np.abs(self._points[0]), self._points[1], self._points[2]
        free = self.label == 0
        back = np.hypot((x - 0.26) / 0.24, (y + 0.86) / 0.24) < 1
        psoas = np.hypot((x - 0.24) / 0.13, (y + 0.52) / 0.17) < np.clip(0.6 - z, 0, 1)
        body = np.hypot(x / 0.19, (y + 0.58) / 0.20)
        arch = np.hypot(x / 0.14, (y + 0.84) / 0.13) < 1
        spinous_process = (x < 0.035) & (np.abs(y + 1) < 0.16)
        canal = np.hypot(x / 0.08, (y + 0.83) / 0.07) < 1
        self.hu[free & (back | psoas)] = self._muscle_hu
        self.hu[free & (arch | spinous_process | (body < 1))] = _BONE
        self.hu[free & (body < 0.84)] = _MARROW
        self.hu[free & canal] = _CORD

    def _paint_cysts(self, mask: np.ndarray, local: np.ndarray) -> None:
        """Paint a few cysts, as dark as the gallbladder, into the liver."""
        for _ in range(self._rng.integers(0, 4)):
            centre = self._rng.uniform(-0.6, 0.6, 3).astype(np.float32)
            distance = np.sqrt(((local - centre[:, None, None, None]) ** 2).sum(axis=0))
            is_cyst = mask & (distance < self._rng.uniform(0.08, 0.2))
            self.hu[is_cyst] = self._rng.uniform(5, 30)

    def _local_points(self, structure: Structure) -> np.ndarray:
        """Return points (3, X, Y, Z) in a frame in which the structure is the unit ball."""
        rng = self._rng
        centre = np.array(structure.centre) + rng.normal(0, 0.03, 3)
        semi_axes = np.array(structure.semi_axes) * rng.uniform(0.88, 1.12, 3)
        turn = Rotation.from_euler("xyz", rng.normal(0, (4, 4, 9)), degrees=True).as_matrix()
        offset = self._points - centre.astype(np.float32)[:, None, None, None]
        offset[1] += np.float32(structure.bend) * offset[0] ** 2
        matrix = (turn / semi_axes[:, None]).astype(np.float32)
        return np.einsum("ij,j...->i...", matrix, offset)

    def _enhanced(self, hu: tuple[float, float, float]) -> float:
        """Mix the values of the three contrast phases as this scan does."""
        return float(np.dot(hu, self._phase))


def _superellipse_radius(points: np.ndarray) -> np.ndarray:
    """Return the distance from the body's axis: 1 on the skin, which is a rounded rectangle."""
    exponent = np.float32(2.3)
    return (np.abs(points[0]) ** exponent + np.abs(points[1]) ** exponent) ** (1 / exponent)
