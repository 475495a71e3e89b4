# SPDX-License-Identifier: Apache-2.0
"""A small buffer of /tf and /tf_static, for one question: through which edge does the map join the camera's tree?"""

import bisect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.quaternions import slerp
from da3_core.ros_data.conventions import compose, stamp_ns

MAX_DEPTH = 1000  # of a tree; deeper means that frames are their own ancestors
HISTORY_NS = 10_000_000_000
YIELD_S = 10.0  # after the last transform with which somebody else joined something to the map
OWN_REMEMBERED = 1000  # transforms of ours that may still come back


class TransformUnknown(InputError):
    """No transform at that time: none ever, not yet, or no longer."""


@dataclass
class _Edge:
    """The pose of a frame in its parent over time: stamps ascending, a translation and a quaternion each."""

    parent: str
    static: bool
    stamps_ns: list[int] = field(default_factory=list)
    poses: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


class JoinedByOther(TransformUnknown):
    """Somebody else joins frames to the map at the moment."""


@dataclass(frozen=True)
class _Claim:
    """Somebody else joined `child` to the map, at `time_s` of a steady clock."""

    child: str
    publisher: str
    time_s: float


class TransformTree:
    """What /tf and /tf_static said in the last ten seconds, without tf2. Thread-safe.

    Every frame has one parent at most and the root has none (REP 105). Transforms whose parent is the map are no part
    of it unless they are static: our own come back, and where somebody else joins something to the map, `map_to_tree`
    yields. A transform that is older than the history starts a new one, since a bag began again.

    Args:
        map_frame: the frame that this node adds above the root.
        max_extrapolation_s: how far from the nearest known transform a stamp may lie; the nearest one is then held.
        now_s: a steady clock.
    """

    def __init__(self, map_frame: str, max_extrapolation_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._map_frame, self._now_s = map_frame.lstrip("/"), now_s
        self._own: deque[tuple[Any, ...]] = deque(maxlen=OWN_REMEMBERED)
        self._claim: _Claim | None = None
        self._max_extrapolation_ns = round(max_extrapolation_s * 1e9)
        self._edges: dict[str, _Edge] = {}
        self._by_odometry: set[str] = set()
        self._lock = threading.Lock()

    def add(self, transforms: Iterable[Any], static: bool, publisher: Callable[[], str | None] = str) -> None:
        """Take in `TransformStamped` of /tf, or of /tf_static when `static`.

        Those that are not finite, have no name or are their own parent are ignored.

        Args:
            publisher: who sent them, asked when it matters; None is ourselves, and nobody knows a nameless one.
        """
        for transform in transforms:
            parent, child = (name.lstrip("/") for name in (transform.header.frame_id, transform.child_frame_id))
            pose = _pose(transform.transform.translation, transform.transform.rotation)
            if pose is None or not (parent and child and parent != child):
                continue
            stamp = stamp_ns(transform.header.stamp)
            if static or parent != self._map_frame:
                with self._lock:
                    if child not in self._by_odometry:
                        self._insert(parent, child, stamp, pose, static)
            elif _content(child, stamp, pose[0]) not in self._own:
                is_known = self._claim is not None and self._claim.child == child
                name = self._claim.publisher if self._claim and is_known else publisher()
                if name is not None:
                    self._claim = _Claim(child, name, self._now_s())

    def add_odometry(self, odometry: Any) -> None:
        """Take in an `Odometry`. From now on nothing that /tf says of the parent of its child frame counts.

        What is not finite or has no names is ignored.
        """
        parent, child = (name.lstrip("/") for name in (odometry.header.frame_id, odometry.child_frame_id))
        pose = _pose(odometry.pose.pose.position, odometry.pose.pose.orientation)
        if pose is None or not (parent and child and parent != child):
            return
        with self._lock:
            self._by_odometry.add(child)
            self._insert(parent, child, stamp_ns(odometry.header.stamp), pose, static=False)

    def note_own(self, child: str, stamp: int, child_to_map: np.ndarray) -> None:
        """A transform that is about to be published: it will come back, and is nobody else's."""
        self._own.append(_content(child, stamp, child_to_map[:3, 3]))

    def _insert(self, parent: str, child: str, stamp: int, pose: tuple[np.ndarray, np.ndarray], static: bool) -> None:
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent or static or edge.static:
            self._edges[child] = _Edge(parent, static, [stamp], [pose])
            return
        if stamp < edge.stamps_ns[-1] - HISTORY_NS:
            edge.stamps_ns.clear()
            edge.poses.clear()
        place = bisect.bisect_left(edge.stamps_ns, stamp)
        replaced = place < len(edge.stamps_ns) and edge.stamps_ns[place] == stamp
        edge.stamps_ns[place : place + replaced] = [stamp]
        edge.poses[place : place + replaced] = [pose]
        outdated = bisect.bisect_left(edge.stamps_ns, edge.stamps_ns[-1] - HISTORY_NS)
        del edge.stamps_ns[:outdated], edge.poses[:outdated]

    def root(self, frame: str) -> str:
        """The frame at the top of the tree that `frame` is in: itself when nothing is known about it."""
        with self._lock:
            return self._chain(frame)[-1]

    def frame_to_root(self, frame: str, stamp: int) -> tuple[str, np.ndarray]:
        """The root above `frame` and the `(4, 4)` pose of the frame in it at a stamp in nanoseconds.

        Raises:
            TransformUnknown: an edge on the way has no transform near enough to the stamp.
        """
        with self._lock:
            chain = self._chain(frame)
            to_root = np.eye(4)
            for child in chain[:-1]:
                to_root = self._at(child, stamp) @ to_root
            return chain[-1], to_root

    def pose_in(self, frame: str, ancestor: str, stamp: int) -> np.ndarray:
        """The `(4, 4)` pose of a frame in one above it, at a stamp in nanoseconds.

        Raises:
            TransformUnknown: `ancestor` is not above it, or an edge on the way has no transform near enough to the
                stamp.
        """
        with self._lock:
            chain = self._chain(frame)
            if ancestor.lstrip("/") not in chain:
                raise TransformUnknown(f"The frame {frame} is not below {ancestor}, but in {' in '.join(chain)}.")
            to_ancestor = np.eye(4)
            for child in chain[: chain.index(ancestor.lstrip("/"))]:
                to_ancestor = self._at(child, stamp) @ to_ancestor
            return to_ancestor

    def brackets(self, frame: str, ancestor: str, stamp: int) -> bool:
        """Whether the pose of a frame in one above it is known without holding any transform beyond its time."""
        with self._lock:
            chain, ancestor = self._chain(frame), ancestor.lstrip("/")
            edges = [self._edges[child] for child in chain[: chain.index(ancestor)]] if ancestor in chain else None
            return edges is not None and all(
                edge.static or edge.stamps_ns[0] <= stamp <= edge.stamps_ns[-1] for edge in edges
            )

    def body(self, frame: str) -> tuple[str, np.ndarray]:
        """The topmost frame that static transforms tie `frame` to, and the `(4, 4)` pose of the frame in it."""
        with self._lock:
            body, to_body = self._chain(frame)[0], np.eye(4)
            while body in self._edges and self._edges[body].static:
                to_body = self._at(body, 0) @ to_body
                body = self._edges[body].parent
            return body, to_body

    def frames(self) -> set[str]:
        """Every frame that a transform has named so far."""
        with self._lock:
            return set(self._edges) | {edge.parent for edge in self._edges.values()}

    def map_to_tree(self, camera_frame: str, camera_to_map: np.ndarray, stamp: int) -> tuple[str, np.ndarray]:
        """The edge to publish: the child of the map, and the `(4, 4)` pose of that child in the map.

        The child is the camera itself while it has no parent, else the root of its tree, so that no frame is ever
        given a second parent (REP 105).

        Raises:
            TransformUnknown: the chain is not known at the stamp, or somebody else already joins it to the map.
            JoinedByOther: so does somebody else, on /tf, with this frame or another one.
        """
        self._yield_to_other()
        root, camera_to_root = self.frame_to_root(camera_frame, stamp)
        if root == self._map_frame:
            raise TransformUnknown(
                f"The frame {camera_frame} is below {root} already, in /tf_static; set tf.mode to none or choose "
                "another map_frame."
            )
        return root, camera_to_map @ invert_rigid(camera_to_root)

    def map_to_odom(
        self, camera_frame: str, camera_to_map: np.ndarray, stamp: int, odom_frame: str
    ) -> tuple[str, np.ndarray]:
        """The edge to publish beside odometry: `odom_frame`, and its `(4, 4)` pose in the map.

        Raises:
            TransformUnknown: the camera is not known in it at the stamp, or it has a parent already.
            JoinedByOther: as of `map_to_tree`.
        """
        self._yield_to_other()
        camera_to_odom, odom_frame = self.pose_in(camera_frame, odom_frame, stamp), odom_frame.lstrip("/")
        if (root := self.root(odom_frame)) != odom_frame:
            raise TransformUnknown(
                f"The frame {odom_frame} is below {root} already, so this node does not give it another parent; end "
                "what publishes that, or set tf.mode to camera or none."
            )
        return odom_frame, camera_to_map @ invert_rigid(camera_to_odom)

    def _yield_to_other(self) -> None:
        claim = self._claim
        if claim is not None and self._now_s() - claim.time_s < YIELD_S:
            who = claim.publisher or "somebody else"
            raise JoinedByOther(
                f"{who} publishes {self._map_frame} -> {claim.child} on /tf, so this node does not; give one of them "
                "another map_frame, or set tf.mode to none."
            )

    def _chain(self, frame: str) -> list[str]:
        chain = [frame.lstrip("/")]
        while chain[-1] in self._edges:
            chain.append(self._edges[chain[-1]].parent)
            if len(chain) > MAX_DEPTH:
                raise TransformUnknown(f"The transforms above {frame} run in a circle; correct who publishes them.")
        return chain

    def _at(self, child: str, stamp: int) -> np.ndarray:
        edge = self._edges[child]
        if edge.static:
            return compose(*edge.poses[0])
        stamps = edge.stamps_ns
        after = bisect.bisect_left(stamps, stamp)
        if 0 < after < len(stamps):
            (t0, q0), (t1, q1) = edge.poses[after - 1], edge.poses[after]
            share = (stamp - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
            return compose(t0 + share * (t1 - t0), slerp(q0, q1, share))
        nearest = min(after, len(stamps) - 1)
        distance = abs(stamp - stamps[nearest])
        if distance > self._max_extrapolation_ns:
            raise TransformUnknown(
                f"The transform {edge.parent} -> {child} is known from {stamps[0]} to {stamps[-1]} ns and the image is "
                f"of {stamp} ns; at most {self._max_extrapolation_ns} ns beyond are bridged."
            )
        return compose(*edge.poses[nearest])


def _pose(t: Any, q: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """`(3,)` and the unit quaternion `(4,)` of messages; None where they are no pose."""
    translation, quaternion = np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w])
    length = float(np.linalg.norm(quaternion))
    return (translation, quaternion / length) if np.isfinite(translation).all() and 0 < length < np.inf else None


def _content(child: str, stamp: int, translation: np.ndarray) -> tuple[Any, ...]:
    return child, stamp, *translation.tolist()
