"""A made-up heart in short-axis cine MRI: thick slices from base to apex, at two times.

Coordinates are the picture's: u to its right (the patient's left), v down, in mm from the centre,
and t along the heart: 0 at the mitral valve, 1 at the apex.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

CLASSES = ("right_ventricle", "myocardium", "left_ventricle")
MIN_SIZE = (48, 48, 4)
NUM_FRAMES = 30
_BLOOD, _MUSCLE, _FAT, _LIVER, _LUNG, _AIR = 200.0, 75.0, 165.0, 88.0, 14.0, 2.0
_FREE_WALL_MM = 3.5


@dataclass(frozen=True)
class Build:
    """A group of patients at end-diastole, at half the way to the apex.

    Attributes:
        cavity_mm: Radius of the left ventricle's cavity.
        wall_mm: Thickness of its wall.
        right_scale: Size of the right ventricle, relative to a healthy one.
        ejection: Share of the cavity's area that is gone at end-systole.
    """

    cavity_mm: float
    wall_mm: float
    right_scale: float
    ejection: float


# The groups of the ACDC challenge: infarction, dilated, hypertrophic, right ventricle, healthy.
GROUPS = {
    "DCM": Build(33, 8.5, 1.05, 0.25),
    "HCM": Build(22, 15, 0.9, 0.68),
    "MINF": Build(27, 9, 1.0, 0.36),
    "NOR": Build(25, 9, 1.0, 0.58),
    "RV": Build(23, 9, 1.35, 0.55),
}


@dataclass(frozen=True)
class HeartScan:
    """One patient.

    Attributes:
        group: One of GROUPS.
        frames: Number of the frame to its image, int16, and label map, uint8, of CLASSES on the
            same grid: end-diastole first, then end-systole.
        height_cm: Of the patient.
        weight_kg: Of the patient.
    """

    group: str
    frames: dict[int, tuple[nib.Nifti1Image, nib.Nifti1Image]]
    height_cm: float
    weight_kg: float


@dataclass(frozen=True)
class _Heart:
    """One patient's heart; `waves` are the phases that make its outline uneven."""

    build: Build
    centre_mm: np.ndarray
    drift_mm: np.ndarray
    towards_right: float
    waves: np.ndarray


def make_heart(seed: int, number: int, size: tuple[int, ...]) -> HeartScan:
    """Make one patient.

    Args:
        seed: Of the data set.
        number: Of the patient; the group follows from it.
        size: Pixels to the right and down, and slices.
    """
    rng = np.random.default_rng([seed, number, 1])
    group = sorted(GROUPS)[number % len(GROUPS)]
    field_mm, length_mm = rng.uniform(280, 340), rng.uniform(90, 110)
    spacing_mm = np.array([*[field_mm / max(size[:2])] * 2, length_mm / size[2]])
    heart = _draw_heart(GROUPS[group], rng)
    u, v, t = _points(size, spacing_mm, rng)
    thorax = _paint_thorax(u, v, heart, rng)
    gain = np.exp(rng.uniform(np.log(0.6), np.log(6)))
    end_systole = int(rng.integers(9, 15))
    frames = {}
    for frame, contraction in ((1, 0.0), (end_systole, 1.0)):
        beat = _Beat(heart, u, v, t, contraction)
        picture, label = _paint_heart(thorax.copy(), beat)
        image = np.rint(_acquire(picture, u, v, rng) * gain).astype(np.int16)
        frames[frame] = _as_nifti(image, spacing_mm), _as_nifti(label, spacing_mm)
    height_cm, weight_kg = (round(rng.uniform(*limits), 1) for limits in ((155, 190), (55, 100)))
    return HeartScan(group, frames, height_cm, weight_kg)


def _draw_heart(build: Build, rng: np.random.Generator) -> _Heart:
    scale = rng.uniform(0.9, 1.1)
    own = Build(
        build.cavity_mm * scale,
        build.wall_mm * rng.uniform(0.9, 1.1),
        build.right_scale * rng.uniform(0.93, 1.07),
        build.ejection * rng.uniform(0.9, 1.1),
    )
    return _Heart(
        own,
        centre_mm=np.array([15.0, -5.0]) + rng.normal(0, 7, 2),
        drift_mm=rng.normal((10, 6), 4),
        towards_right=np.pi + np.radians(rng.normal(15, 12)),  # to the picture's left, and up
        waves=rng.uniform(0, 2 * np.pi, 4),
    )


def _points(
    size: tuple[int, ...], spacing_mm: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return u, v (X, Y, Z) in mm and t (Z,); every slice is shifted, as breath-holds do."""
    columns, rows, _ = (np.arange(count) - (count - 1) / 2 for count in size)
    shift_mm = rng.normal(0, 1.2, (2, size[2]))
    u = columns[:, None, None] * spacing_mm[0] + np.zeros((1, size[1], 1)) + shift_mm[0]
    v = rows[None, :, None] * spacing_mm[1] + np.zeros((size[0], 1, 1)) + shift_mm[1]
    t = np.linspace(-0.08, 1.12, size[2])
    bend = rng.uniform(0, 2 * np.pi, 4)
    uneven_u = u + 3 * np.sin(v / 23 + bend[0]) + 1.5 * np.sin(v / 9 + bend[1])
    uneven_v = v + 3 * np.sin(u / 26 + bend[2]) + 1.5 * np.sin(u / 10 + bend[3])
    return uneven_u, uneven_v, t


def _paint_thorax(
    u: np.ndarray, v: np.ndarray, heart: _Heart, rng: np.random.Generator
) -> np.ndarray:
    """Return the picture (X, Y, Z) without the heart: chest wall, lungs, liver, vessels."""
    picture = np.full(u.shape, _AIR)
    body = np.array([rng.uniform(140, 165), rng.uniform(110, 130)])
    for share, value in ((1.0, _FAT), (rng.uniform(0.86, 0.93), _MUSCLE), (0.8, _LUNG)):
        picture[_level(u, v, (0, 0), body * share) < 1] = value
    inside = _level(u, v, (0, 0), body * 0.8) < 1
    for _ in range(25):  # vessels of the lung
        centre, radius = rng.uniform(-1, 1, 2) * body * 0.75, rng.uniform(1.5, 4.5)
        picture[inside & (_level(u, v, centre, (radius, radius)) < 1)] = rng.uniform(60, 190)
    liver = (-45 + rng.normal(0, 8), 80 + rng.normal(0, 6)), (95, 42)
    stomach = (75 + rng.normal(0, 8), 75 + rng.normal(0, 6)), (42, 34)
    aorta = heart.centre_mm + np.array([30, 62]) + rng.normal(0, 5, 2), (11, 11)
    picture[inside & (_level(u, v, *liver) < 1)] = _LIVER
    picture[inside & (_level(u, v, *stomach) < 1)] = rng.uniform(30, 150)
    picture[inside & (_level(u, v, *aorta) < 1)] = _BLOOD
    return picture


def _paint_heart(picture: np.ndarray, beat: _Beat) -> tuple[np.ndarray, np.ndarray]:
    """Paint the heart into `picture`, which is changed.

    Returns:
        The picture, and labels (X, Y, Z) uint8.
    """
    right, epicardium, cavity = beat.right_level() < 1, beat.epicardium(), beat.cavity()
    picture[beat.epicardium(margin_mm=7) | (beat.right_level(margin_mm=11) < 1)] = 0.7 * _FAT
    picture[beat.right_level(margin_mm=_FREE_WALL_MM) < 1] = _MUSCLE
    picture[right] = 0.95 * _BLOOD
    picture[epicardium] = _MUSCLE
    picture[cavity] = _BLOOD
    picture[cavity & beat.papillary()] = 1.2 * _MUSCLE
    label = np.zeros(picture.shape, np.uint8)
    for value, mask in enumerate((right, epicardium, cavity), start=1):
        label[mask] = value
    label[..., beat.depth < 0] = 0  # atria: blood, not annotated
    return picture, label


class _Beat:
    """A heart at one time of its beat, around its own axis.

    Args:
        heart: The patient's.
        u: Picture coordinates in mm (X, Y, Z).
        v: Likewise.
        t: Position along the heart (Z,).
        contraction: 0 at end-diastole, 1 at end-systole.
    """

    def __init__(
        self, heart: _Heart, u: np.ndarray, v: np.ndarray, t: np.ndarray, contraction: float
    ) -> None:
        self._heart, self._contraction = heart, contraction
        build, base = heart.build, 0.1 * contraction  # the base comes down to the apex
        centre = heart.centre_mm[:, None] + heart.drift_mm[:, None] * t
        self._x, self._y = u - centre[0], v - centre[1]
        self.depth = (t - base) / (1 - base)
        angle = np.arctan2(self._y, self._x)
        waves = 0.05 * np.sin(2 * angle + heart.waves[0]) + 0.03 * np.sin(3 * angle)
        self._distance = np.hypot(self._x, self._y) / (1 + waves)
        self._inner_mm = build.cavity_mm * np.sqrt(1 - build.ejection * contraction)
        diastolic = build.cavity_mm + build.wall_mm
        # The wall keeps its area, so it gets thicker; the atria above the base have thin ones.
        outer_mm = np.sqrt(self._inner_mm**2 + diastolic**2 - build.cavity_mm**2)
        self._outer_mm = np.where(self.depth < 0, self._inner_mm + 2.5, outer_mm)

    def cavity(self) -> np.ndarray:
        """Return where the left ventricle's blood is, papillary muscles included."""
        return self._distance < self._inner_mm * _tapered(self.depth, 0.92)

    def epicardium(self, margin_mm: float = 0.0) -> np.ndarray:
        """Return the left ventricle with its wall, widened by a margin."""
        return self._distance < (self._outer_mm + margin_mm) * _tapered(self.depth, 1.02)

    def right_level(self, margin_mm: float = 0.0) -> np.ndarray:
        """Return the right ventricle's level, 1 on its border; the left one covers half of it."""
        direction = self._heart.towards_right
        along = self._x * np.cos(direction) + self._y * np.sin(direction)
        across = self._y * np.cos(direction) - self._x * np.sin(direction)
        scale = self._heart.build.right_scale * (1 - 0.18 * self._contraction)
        size = scale * self._outer_mm * _tapered(self.depth, 0.84)
        semi_axes = 0.95 * size + margin_mm, 1.25 * size + margin_mm
        with np.errstate(divide="ignore", invalid="ignore"):
            level = np.hypot((along - 0.95 * size) / semi_axes[0], across / semi_axes[1])
        return np.where(size > 0, level, np.inf)

    def papillary(self) -> np.ndarray:
        """Return where the two papillary muscles are, at half the height of the heart."""
        found = np.zeros(self._x.shape, bool)
        for angle in self._heart.waves[1] + np.radians([0, 110]):
            centre = 0.6 * self._inner_mm * np.array([np.cos(angle), np.sin(angle)])
            distance = np.hypot(self._x - centre[0], self._y - centre[1])
            found |= distance < 0.16 * self._inner_mm
        return found & (self.depth > 0.25) & (self.depth < 0.7)


def _tapered(depth: np.ndarray, end: float) -> np.ndarray:
    """Return the relative radius of a half ellipsoid that ends at depth `end`, 1 above it."""
    return np.sqrt(np.clip(1 - (np.clip(depth, 0, None) / end) ** 2, 0, None))


def _level(
    u: np.ndarray,
    v: np.ndarray,
    centre: tuple[float, float] | np.ndarray,
    semi_axes: tuple[float, float] | np.ndarray,
) -> np.ndarray:
    """Return the distance from an ellipse's centre, 1 on its border."""
    return np.hypot((u - centre[0]) / semi_axes[0], (v - centre[1]) / semi_axes[1])


def _acquire(
    picture: np.ndarray, u: np.ndarray, v: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Blur over pixel borders, add texture, uneven reception and the noise of a magnitude."""
    picture = gaussian_filter(picture, (0.6, 0.6, 0))
    texture = gaussian_filter(rng.standard_normal(picture.shape), (1.5, 1.5, 0))
    picture *= 1 + 0.09 * texture / texture.std()
    direction = rng.uniform(0, 2 * np.pi)
    picture *= np.exp(-(u * np.cos(direction) + v * np.sin(direction)) / rng.uniform(300, 600))
    noise = rng.uniform(5, 11) * rng.standard_normal((2, *picture.shape))
    return np.hypot(picture + noise[0], noise[1])


def _as_nifti(array: np.ndarray, spacing_mm: np.ndarray) -> nib.Nifti1Image:
    """Store (right, down, slice) of the picture as left, posterior and superior."""
    image = nib.Nifti1Image(array, np.diag([*(spacing_mm * [-1, -1, 1]), 1]))
    image.header.set_xyzt_units("mm")
    return image
