"""A scripted agent that explores a maze with the help of its floor plan.

The agent determines the content of the recorded frames. An agent that only turns away from walls
spends half its time in front of one. This agent knows the floor plan instead: it follows a short,
well-centered path to a room it has rarely visited, looks ahead along that path, and selects a new
path when it arrives.

The agent also deviates at random: it stands still, looks around, pauses and turns in a wrong
direction. Without that, the next frame would be predictable from the image alone, and a model
would learn to ignore the actions.

Not here: the game and the files (record_maze.py). Walls and positions are plain numbers.
"""

import heapq
import math
from collections.abc import Sequence

import numpy as np

ACTIONS = ("none", "turn left", "turn right", "forward", "forward left", "forward right")

# Lengths are in map units: a room is 160 wide, a corridor 64, the player 32.
_NODE_SPACING = 16.0  # spacing of the lattice of nodes, which is that of the map
_MARGIN = 20.0  # minimum distance of nodes and shortcuts from walls
_PENALTY_DISTANCE = 72.0  # nodes closer to a wall than this cost more
_ROOM_CLEARANCE = 60.0  # minimum distance from walls of the room centers, where paths end
_LOOK_AHEAD = (
    112.0  # distance to the target point: shorter follows the path closely, longer cuts corners
)
_GOAL_RADIUS = 96.0  # touching a goal object would end the episode
_GLIDE_FACTOR = 1.9  # the player slides by this multiple of its last step
_NEIGHBOURS = [
    (i * _NODE_SPACING, j * _NODE_SPACING) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j
]

Point = tuple[float, float]


class FloorPlan:
    """The walkable nodes: reachable from `start`, clear of walls and goal objects.

    Args:
        walls: (x1, y1, x2, y2) of each wall, in map units.
        goals: positions of the goal objects.
        start: position of the player.
    """

    def __init__(
        self, walls: Sequence[tuple[float, ...]], goals: list[Point], start: Point
    ) -> None:
        ends = np.array(walls)
        self._wall_starts, self._wall_vectors = ends[:, :2], ends[:, 2:] - ends[:, :2]
        self.clearance: dict[Point, float] = {}  # node -> its distance to the nearest wall
        x, y = (math.floor(value / _NODE_SPACING) * _NODE_SPACING for value in start)
        corners = [(x + i, y + j) for i in (0, _NODE_SPACING) for j in (0, _NODE_SPACING)]
        pending, visited = [max(corners, key=self.compute_wall_distance)], set()
        while pending:
            node = pending.pop()
            clearance = self.compute_wall_distance(node)
            is_free = all(math.dist(node, goal) >= _GOAL_RADIUS for goal in goals)
            if node not in visited and clearance >= _MARGIN and is_free:
                self.clearance[node] = clearance
                pending += [(node[0] + i, node[1] + j) for i, j in _NEIGHBOURS]
            visited.add(node)
        self.nodes = sorted(self.clearance)

    def compute_wall_distance(self, *points: Point) -> float:
        """Return the shortest distance from any of the points to any wall."""
        gap = np.array(points)[:, None] - self._wall_starts
        fraction = (gap * self._wall_vectors).sum(-1) / (self._wall_vectors**2).sum(-1)
        gap -= fraction.clip(0, 1)[..., None] * self._wall_vectors
        return float(np.sqrt((gap**2).sum(-1)).min())

    def is_clear(self, a: Point, b: Point) -> bool:
        """Return whether the straight line from a to b is clear of the walls."""
        steps = max(2, int(math.dist(a, b) / 8))
        points = [_interpolate(a, b, i / steps) for i in range(1, steps + 1)]
        return self.compute_wall_distance(*points) >= _MARGIN

    def find_paths(self, start: Point) -> tuple[dict[Point, float], dict[Point, Point]]:
        """Return the cost of the best path to each node and its predecessor (Dijkstra)."""
        origin = min(self.nodes, key=lambda node: math.dist(node, start))
        costs, predecessors, queue = {origin: 0.0}, {origin: origin}, [(0.0, origin)]
        while queue:
            cost, node = heapq.heappop(queue)
            for i, j in _NEIGHBOURS:
                other = (node[0] + i, node[1] + j)
                closeness = max(0.0, 1 - self.clearance.get(other, math.inf) / _PENALTY_DISTANCE)
                new_cost = cost + math.hypot(i, j) * (1 + 4 * closeness)
                if other in self.clearance and new_cost < costs.get(other, math.inf):
                    costs[other], predecessors[other] = new_cost, node
                    heapq.heappush(queue, (new_cost, other))
        return costs, predecessors


class MazeAgent:
    """Agent that chooses the action of every frame; `rng` is its only source of randomness.

    Args:
        plan: the floor plan of the maze.
        rng: the random number generator.
    """

    def __init__(self, plan: FloorPlan, rng: np.random.Generator) -> None:
        self.floor_plan, self.rng = plan, rng
        self.path: list[Point] = []
        self.visits: dict[Point, int] = {}  # frames spent in each room
        self.queued_actions: list[int] = []  # remaining actions of a pause or a turn
        self.forward_probability = 1.0  # probability of a forward step
        self.last_position: Point | None = None

    def act(self, position: Point, angle: float) -> int:
        """Return the index into `ACTIONS` for a player at `position` that faces `angle` degrees."""
        self.visits[get_room(position)] = self.visits.get(get_room(position), 0) + 1
        # Steer from the position after sliding, otherwise the player overshoots into walls.
        rest_position = self._predict_position(position)
        if self.queued_actions:
            return self.queued_actions.pop()
        if not self.path or math.dist(rest_position, self.path[-1]) < 24:
            self._choose_path(rest_position, angle)
        target = self._choose_target(rest_position)
        turn = _compute_turn(target, rest_position, angle)
        if abs(turn) < 30 and self._maybe_start_interlude(position, angle):
            return self.queued_actions.pop()
        # A turn of one frame is 7 to 14 degrees: ignore smaller errors.
        side = 0 if abs(turn) < 9 else 1 if turn > 0 else 2
        if self.rng.random() < 0.12:
            side = int(self.rng.integers(3))
        forward = (
            abs(turn) < 40
            and math.dist(rest_position, target) > 12
            and self.rng.random() < self.forward_probability
        )
        return side + 3 * forward

    def _predict_position(self, position: Point) -> Point:
        previous, self.last_position = self.last_position or position, position
        ends = (
            _interpolate(previous, position, 1 + _GLIDE_FACTOR * i / 8) for i in range(8, 0, -1)
        )
        return next((end for end in ends if self.floor_plan.is_clear(position, end)), position)

    def _maybe_start_interlude(self, position: Point, angle: float) -> bool:
        draw, heading = self.rng.random(), math.radians(angle)
        ahead = (position[0] + 96 * math.cos(heading), position[1] + 96 * math.sin(heading))
        if draw < 0.035 and self.floor_plan.is_clear(position, ahead):  # stand still
            self.queued_actions = [0] * int(self.rng.integers(2, 6))
        elif (
            draw > 0.97 and self.floor_plan.compute_wall_distance(position) > _ROOM_CLEARANCE
        ):  # look around
            self.queued_actions = [int(self.rng.integers(1, 3))] * int(self.rng.integers(3, 8))
        return bool(self.queued_actions)

    def _choose_path(self, position: Point, angle: float) -> None:
        """Sample six random paths and take the one to the newest room with the smallest turn."""
        costs, predecessors = self.floor_plan.find_paths(position)
        centers = [
            node
            for node in self.floor_plan.nodes
            if self.floor_plan.clearance[node] > _ROOM_CLEARANCE
        ]
        far = [node for node in centers if costs[node] > 240]

        def compute_penalty(path: list[Point]) -> float:
            turn = _compute_turn(path[min(6, len(path) - 1)], position, angle)
            return self.visits.get(get_room(path[-1]), 0) / 8 + abs(turn) / 90

        paths = [_backtrack(predecessors, far[i]) for i in self.rng.integers(len(far), size=6)]
        self.path = min(paths, key=compute_penalty)
        self.forward_probability = float(self.rng.uniform(0.65, 1.0))

    def _choose_target(self, position: Point) -> Point:
        """Return the farthest point of the path in a clear straight line; drop passed points."""
        near = [i for i, node in enumerate(self.path) if math.dist(node, position) < _LOOK_AHEAD]
        start = min(near, key=lambda i: math.dist(self.path[i], position), default=0)
        ahead = [self.path[i] for i in near if i > start]
        reachable = [node for node in ahead if self.floor_plan.is_clear(position, node)]
        self.path = self.path[start:]
        return reachable[-1] if reachable else self.path[min(1, len(self.path) - 1)]


def _interpolate(a: Point, b: Point, t: float) -> Point:
    return a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])


def get_room(position: Point) -> Point:
    """Return the cell of a position in the lattice of rooms, each 160 map units wide."""
    return position[0] // 160, position[1] // 160


def _backtrack(predecessors: dict[Point, Point], node: Point) -> list[Point]:
    path = [node]
    while predecessors[path[-1]] != path[-1]:
        path.append(predecessors[path[-1]])
    return path[::-1]


def _compute_turn(target: Point, position: Point, angle: float) -> float:
    """Return the degrees to turn left (negative: right) to face `target` from `position`."""
    bearing = math.degrees(math.atan2(target[1] - position[1], target[0] - position[0]))
    return (bearing - angle + 180) % 360 - 180
