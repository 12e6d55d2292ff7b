"""The chest's large structures: body wall, bones, mediastinum, diaphragm, abdomen and the lungs between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worker.phantom.shapes import Field, Point, Space, as_field, carve_tube, ellipsoid, paint, paint_tube

HEIGHT_MM = 300.0

AIR, FAT, MUSCLE, SKIN, BLOOD, ORGAN = -1000.0, -100.0, 52.0, 20.0, 42.0, 58.0
MARROW, CORTEX, CARTILAGE, DISC = 190.0, 620.0, 95.0, 85.0

AORTA: list[Point] = [(-14, -22, 128), (-16, -26, 165), (-12, -24, 188), (2, -10, 202), (16, 12, 204), (24, 30, 196)]
AORTA += [(25, 38, 175), (22, 40, 120), (14, 40, 60), (6, 38, -5)]
AORTA_RADII = [15, 16, 15, 14, 13, 12.5, 12, 11.5, 11, 10.5]
CAVA: list[Point] = [(-27, -18, 120), (-29, -20, 165), (-26, -24, 215), (-20, -26, 262)]
LEFT_INNOMINATE: list[Point] = [(-24, -28, 222), (6, -38, 232), (32, -34, 256), (40, -28, 300)]
PULMONARY: list[Point] = [(14, -34, 130), (16, -30, 158), (10, -12, 170)]
ARCH_BRANCHES: list[list[Point]] = [
    [(-6, -16, 200), (-18, -14, 240), (-26, -4, 300)],
    [(6, -8, 203), (16, -4, 245), (22, 2, 300)],
    [(16, 8, 205), (26, 14, 245), (34, 12, 300)],
]
VENA_CAVA: list[Point] = [(-20, 22, -5), (-20, 20, 60), (-16, 8, 100)]
HEPATIC_VEINS: list[list[Point]] = [
    [(-20, 18, 84), (-60, 20, 70), (-105, 30, 48)],
    [(-20, 16, 84), (-50, -20, 72), (-80, -55, 52)],
    [(-16, 14, 84), (-10, -25, 66), (-2, -55, 50)],
]
ESOPHAGUS: list[Point] = [(2, 30, 300), (4, 31, 230), (2, 32, 170), (8, 30, 110), (16, 22, 70)]


@dataclass(frozen=True)
class Anatomy:
    """HU of the large structures, and each lung's field."""

    hu: Field
    left_lung: Field
    right_lung: Field


def build_anatomy(space: Space) -> Anatomy:
    """Build the large structures and the lungs' fields; airways, lung vessels, lesions and noise come later."""
    hu = np.full(space.shape, AIR, np.float32)
    cavity, wall = _cavity(space), _body(space)
    _paint_table(hu, space)
    _paint_wall(hu, space, wall, cavity)
    _paint_shoulders(hu, space, wall, cavity)
    paint(hu, cavity, -75.0)
    _paint_abdomen(hu, space, cavity)
    _paint_mediastinum(hu, space)
    _paint_spine(hu, space)
    left, right = _lungs(space, cavity)
    return Anatomy(hu, left, right)


def _curve(z: Field, heights: list[float], values: list[float]) -> Field:
    return np.interp(z, heights, values).astype(np.float32)


def _cavity(space: Space) -> Field:
    """Return the field of the space inside the ribs: a superellipse in every slice."""
    z = space.z
    half_width = _curve(z, [0, 70, 140, 190, 230, 262, 300], [130, 133, 130, 119, 100, 78, 58])
    half_depth = _curve(z, [0, 70, 140, 190, 230, 262, 300], [96, 97, 93, 85, 74, 62, 50])
    centre = _curve(z, [0, 150, 300], [-4, 0, 14])
    length = (np.abs(space.x / half_width) ** 2.3 + np.abs((space.y - centre) / half_depth) ** 2.3) ** (1 / 2.3)
    return as_field((1 - length) * np.minimum(half_width, half_depth))


def _body(space: Space) -> Field:
    z = space.z
    half_width = _curve(z, [0, 80, 160, 220, 260, 300], [163, 166, 168, 174, 184, 190])
    front = _curve(z, [0, 80, 160, 220, 260, 300], [121, 124, 122, 112, 98, 84])
    back = _curve(z, [0, 100, 200, 300], [126, 127, 128, 127])
    half_depth = np.where(space.y < 0, front, back)
    furrow = 5 * np.exp(-((space.x / 14) ** 2)) * (space.y > 0)  # along the spine
    power = np.where(space.y < 0, np.float32(2.4), np.float32(2.7))
    length = (np.abs(space.x / half_width) ** power + np.abs(space.y / (half_depth - furrow)) ** power) ** (1 / power)
    return as_field((1 - length) * half_depth)


def _paint_table(hu: Field, space: Space) -> None:
    top = 139 - 34 * (space.x / 200) ** 2
    depth = np.minimum(space.y - top, top + 30 + 20 * (space.x / 200) ** 2 - space.y)
    plate = np.broadcast_to(np.minimum(depth, 193 - np.abs(space.x)), hu.shape)
    paint(hu, plate, -180.0)
    paint(hu, plate - 2.2, -940.0)
    mattress = np.minimum(space.y - top + 9, top - 1 - space.y)
    paint(hu, np.broadcast_to(np.minimum(mattress, 170 - np.abs(space.x)), hu.shape), -955.0)


def _paint_wall(hu: Field, space: Space, wall: Field, cavity: Field) -> None:
    paint(hu, wall, SKIN)
    paint(hu, wall - 2, FAT)
    angle = np.arctan2(np.abs(space.x), space.y)
    fat_mm = 9 + 5 * np.cos(angle - 2.2) + 5 * (space.z < 60)
    muscle = np.minimum(wall - fat_mm, 34 - np.abs(cavity + 12) + 8)
    paint(hu, muscle, MUSCLE)
    layers = np.abs(np.sin((cavity + 7 * np.sin(angle * 3.1 + space.z / 37)) / 5.5)) * 5.5
    fascia = np.minimum(np.minimum(0.7 - layers, muscle - 4), -cavity - 12)
    paint(hu, np.minimum(fascia, 12 * np.sin(angle * 7 + space.z / 21)), -30.0)
    _paint_ribs(hu, space, cavity, angle)


def _paint_ribs(hu: Field, space: Space, cavity: Field, angle: Field) -> None:
    """Paint ribs: rings in the body wall that descend towards the front, with cartilage near the sternum."""
    outward = -cavity - 6.0
    fall = 78 * (1 - np.cos(angle)) / 2
    phase = (space.z + fall + 6) / 25.0
    off_mm = (phase - np.round(phase)) * 25.0
    rib = (1 - np.sqrt((outward / 4.2) ** 2 + (off_mm / 6.6) ** 2)) * 4.2
    is_cartilage = angle > 2.35
    rib = np.where(angle > 2.92, np.float32(-9), rib)
    paint(hu, rib, np.where(is_cartilage, np.float32(CARTILAGE), np.float32(CORTEX)))
    paint(hu, rib - 1.5, np.where(is_cartilage, np.float32(CARTILAGE - 20), np.float32(MARROW)))
    sternum = np.minimum(
        5.5 - np.abs(cavity + 7.5), np.where(space.y < 0, 17 - np.abs(space.x) + 6 * (space.z > 215), np.float32(-9))
    )
    sternum = np.minimum(sternum, np.minimum(space.z - 95, 250 - space.z))
    paint(hu, sternum, CORTEX - 200)
    paint(hu, sternum - 1.6, MARROW - 60)


def _paint_shoulders(hu: Field, space: Space, wall: Field, cavity: Field) -> None:
    for side in (-1, 1):
        paint(hu, np.minimum(ellipsoid(space, (side * 140, 18, 300), (50, 62, 68)), wall - 9), MUSCLE)
    angle = np.arctan2(np.abs(space.x), space.y)
    blade = 2.2 + 2.5 * np.clip((angle - 1.2) / 0.35, 0, 1) - np.abs(cavity + 24 - 5 * np.cos(5 * angle))
    blade = np.minimum(blade, np.minimum((angle - 0.62) * 95, (1.5 - angle) * 95))
    blade = np.minimum(blade, wall - 16)
    blade = np.minimum(blade, np.minimum((space.z - 150 + 30 * (angle - 1)) / 1.5, 290 - space.z))
    paint(hu, blade, CORTEX - 80, 1.8)
    paint(hu, blade - 2.0, MARROW)
    for side in (-1, 1):
        paint(hu, ellipsoid(space, (side * 150, 22, 292), (23, 24, 30)), CORTEX - 100)
        paint(hu, ellipsoid(space, (side * 150, 22, 292), (20.5, 21.5, 27.5)), MARROW + 30)
        clavicle: list[Point] = [
            (side * 20, -64, 262),
            (side * 62, -66, 276),
            (side * 110, -32, 290),
            (side * 138, -12, 296),
        ]
        paint_tube(hu, space, clavicle, [8, 6, 6, 7], CORTEX - 50)
        paint_tube(hu, space, clavicle, [5.5, 3.5, 3.5, 4.5], MARROW)


def _paint_abdomen(hu: Field, space: Space, cavity: Field) -> None:
    inside = cavity - 2
    liver = np.minimum(np.maximum(_right_dome(space), ellipsoid(space, (10, -45, 45), (85, 42, 40))), inside)
    paint(hu, liver, ORGAN)
    diaphragm = np.minimum(_left_dome(space), inside)
    paint(hu, diaphragm, MUSCLE)
    paint(hu, diaphragm - 3.5, -85.0)
    paint(hu, np.minimum(ellipsoid(space, (85, 40, 34), (40, 42, 48)), inside), ORGAN - 8)
    paint_tube(hu, space, VENA_CAVA, [11, 11, 10], BLOOD - 4)
    for vein in HEPATIC_VEINS:
        paint_tube(hu, space, vein, [5, 3.5, 2], BLOOD - 6, 3.0)
    stomach = np.minimum(ellipsoid(space, (55, -25, 38), (46, 48, 44), 20), inside)
    paint(hu, stomach, ORGAN - 10)
    paint(hu, np.minimum(stomach - 4, space.y + 22), 20.0)
    paint(hu, np.minimum(stomach - 4, -38 - space.y), -985.0)


def _right_dome(space: Space) -> Field:
    return ellipsoid(space, (-66, -4, 10), (76, 93, 92))


def _left_dome(space: Space) -> Field:
    return ellipsoid(space, (70, 0, 6), (72, 92, 84))


def _heart(space: Space) -> Field:
    return ellipsoid(space, (20, -30, 104), (66, 48, 50), 35)


def _paint_mediastinum(hu: Field, space: Space) -> None:
    heart = _heart(space)
    paint(hu, heart, -60.0)
    paint(hu, heart - 5, BLOOD)
    paint(hu, ellipsoid(space, (-2, 6, 132), (34, 19, 22)), BLOOD)
    paint_tube(hu, space, AORTA, AORTA_RADII, BLOOD)
    paint_tube(hu, space, CAVA, [10, 10, 9, 7], BLOOD - 2)
    paint_tube(hu, space, LEFT_INNOMINATE, [6, 6, 6, 5], BLOOD - 2)
    paint_tube(hu, space, PULMONARY, [15, 14, 13], BLOOD)
    for branch in ARCH_BRANCHES:
        paint_tube(hu, space, branch, [6, 5, 4], BLOOD)
    paint_tube(hu, space, ESOPHAGUS, [7, 7, 7, 7, 8], 38.0)
    paint_tube(hu, space, ESOPHAGUS, [1.5, 2, 1, 1, 2], -300.0)
    for side in (-1, 1):  # neck and thoracic inlet
        paint(hu, ellipsoid(space, (side * 22, 2, 305), (14, 13, 28)), 90.0)


def _spine_y(z: Field) -> Field:
    return _curve(z, [0, 100, 200, 300], [52, 58, 60, 52])


def _paint_spine(hu: Field, space: Space) -> None:
    """Paint vertebral bodies, discs, the canal within its arch, and spinous and transverse processes."""
    y = space.y - _spine_y(space.z)
    phase = space.z / 24.0
    off_mm = np.abs(phase - np.round(phase)) * 24.0
    body = (1 - np.sqrt((space.x / 17.5) ** 2 + (y / 14.5) ** 2)) * 14.5
    body = np.broadcast_to(body, hu.shape).astype(np.float32)
    paint(hu, body, DISC)
    bone = np.minimum(body, 9.8 - off_mm)
    paint(hu, bone, CORTEX - 120)
    paint(hu, bone - 1.3, MARROW - 20)
    arch = np.sqrt((space.x / 1.1) ** 2 + (y - 22.5) ** 2)
    process = np.minimum(3.4 - np.abs(space.x), np.minimum(y - 30, 50 - y))
    process = np.minimum(process, 8.5 - np.abs(((space.z + (y - 30) * 0.7) / 24 + 0.5) % 1 - 0.5) * 24)
    transverse = np.minimum(4.5 - np.abs(y - 19 - np.abs(space.x) * 0.12), 33 - np.abs(space.x))
    transverse = np.minimum(transverse, 5.5 - np.abs((phase + 0.45) % 1 - 0.5) * 24)
    ring = np.minimum(14.2 - arch, 11.0 - np.abs((phase + 0.35) % 1 - 0.5) * 24)
    posterior = np.maximum(np.maximum(process, transverse), ring)
    paint(hu, posterior.astype(np.float32), CORTEX - 60)
    paint(hu, posterior.astype(np.float32) - 1.6, MARROW + 60)
    canal = np.broadcast_to(9.6 - arch, hu.shape)
    paint(hu, canal, 12.0)
    paint(hu, canal - 4.4, 38.0)


def _lungs(space: Space, cavity: Field) -> tuple[Field, Field]:
    """Return the fields of the left and the right lung: the chest cavity minus the organs in it."""
    free = np.minimum(cavity - 1.2, space.z - 12 - 40 * np.clip(-space.y / 90, -0.15, 1))
    narrow = 13 + 21 * np.exp(-(((space.y - 4) / 36) ** 2)) + 8 * np.clip((space.z - 215) / 60, 0, 1)
    free = np.minimum(free, np.abs(space.x - 3) - narrow)
    for solid, gap in ((_heart(space), 1.5), (_right_dome(space), 2.0), (_left_dome(space), 2.0)):
        free = np.minimum(free, -solid - gap)
    spine = (1 - np.sqrt((space.x / 26) ** 2 + ((space.y - _spine_y(space.z) - 8) / 30) ** 2)) * 26
    free = np.minimum(free, -spine).astype(np.float32)
    carve_tube(free, space, AORTA, [r + 1.5 for r in AORTA_RADII])
    carve_tube(free, space, CAVA, [12, 12, 11, 9])
    lungs = []
    for side in (1, -1):
        above = np.clip((space.z - 182) / 104, 0, None)  # 1 at the apex
        narrowing = np.clip(above, 0, 1)
        across, along = side * space.x - 62 + 12 * narrowing, space.y - 4 - 6 * narrowing
        reach = (across / (70 - 28 * narrowing)) ** 2 + (along / (97 - 42 * narrowing)) ** 2 + above**2
        lungs.append(np.minimum(np.minimum(free, (1 - np.sqrt(reach)) * 60), side * space.x).astype(np.float32))
    return lungs[0], lungs[1]
