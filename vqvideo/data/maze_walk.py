"""How one walks a labyrinth worth filming: a floor plan, and a walker who knows it.

What is seen depends on how one walks. A walker that only turns away from walls spends half its
time in front of one, so this walker knows the floor plan: it takes a short, well-centred path to
a place it has seldom been to, looks ahead along that path, and chooses anew when it is there.

On top of that it is clumsy on purpose: it stands still, looks around, dawdles and turns
wrongly at random. A walker that always did the one sensible thing would make the next frame
predictable from the picture alone, and a model would learn to ignore the actions.

Not here: the game and the files (maze.py). Walls and positions are plain numbers.
"""

import heapq
import math
from collections.abc import Sequence

import numpy as np

ACTIONS = ("none", "turn left", "turn right", "forward", "forward left", "forward right")

# Lengths are in map units: a room is 160 wide, a corridor 64, the player 32.
_SPACING = 16.0  # of the nodes one can walk on: the lattice the labyrinth is drawn on
_MARGIN = 20.0  # no node and no short cut is closer to a wall
_COMFORT = 72.0  # a path pays for nodes closer to a wall than this
_ROOMY = 60.0  # so far from walls are the middles of rooms, where paths end
_LOOK_AHEAD = 112.0  # to the point walked to: shorter hugs the path, longer cuts corners
_GOAL_RADIUS = 96.0  # touching the goal object would end the episode
_GLIDE = 1.9  # the player slides on, by this many times its last step
_NEIGHBOURS = [(i * _SPACING, j * _SPACING) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]

Point = tuple[float, float]


class FloorPlan:
    """Where one can walk: nodes reachable from `start`, clear of walls and goal objects."""

    def __init__(
        self, walls: Sequence[tuple[float, ...]], goals: list[Point], start: Point
    ) -> None:
        ends = np.array(walls)
        self._from, self._along = ends[:, :2], ends[:, 2:] - ends[:, :2]
        self.clearance: dict[Point, float] = {}  # node -> its distance to the nearest wall
        x, y = (math.floor(value / _SPACING) * _SPACING for value in start)
        corners = [(x + i, y + j) for i in (0, _SPACING) for j in (0, _SPACING)]
        pending, seen = [max(corners, key=self.distance_to_walls)], set()
        while pending:
            node = pending.pop()
            clearance = self.distance_to_walls(node)
            is_free = all(math.dist(node, goal) >= _GOAL_RADIUS for goal in goals)
            if node not in seen and clearance >= _MARGIN and is_free:
                self.clearance[node] = clearance
                pending += [(node[0] + i, node[1] + j) for i, j in _NEIGHBOURS]
            seen.add(node)
        self.nodes = sorted(self.clearance)

    def distance_to_walls(self, *points: Point) -> float:
        """Shortest distance from any of the points to any wall."""
        gap = np.array(points)[:, None] - self._from
        share = (gap * self._along).sum(-1) / (self._along**2).sum(-1)
        gap -= share.clip(0, 1)[..., None] * self._along
        return float(np.sqrt((gap**2).sum(-1)).min())

    def is_clear(self, a: Point, b: Point) -> bool:
        """Whether one can walk straight from a to b, well clear of the walls."""
        steps = max(2, int(math.dist(a, b) / 8))
        points = [_between(a, b, i / steps) for i in range(1, steps + 1)]
        return self.distance_to_walls(*points) >= _MARGIN

    def paths_from(self, start: Point) -> tuple[dict[Point, float], dict[Point, Point]]:
        """Dijkstra: the cost of the best path to each node, and the node before it."""
        origin = min(self.nodes, key=lambda node: math.dist(node, start))
        costs, before, queue = {origin: 0.0}, {origin: origin}, [(0.0, origin)]
        while queue:
            cost, node = heapq.heappop(queue)
            for i, j in _NEIGHBOURS:
                other = (node[0] + i, node[1] + j)
                closeness = max(0.0, 1 - self.clearance.get(other, math.inf) / _COMFORT)
                new_cost = cost + math.hypot(i, j) * (1 + 4 * closeness)
                if other in self.clearance and new_cost < costs.get(other, math.inf):
                    costs[other], before[other] = new_cost, node
                    heapq.heappush(queue, (new_cost, other))
        return costs, before


class Walker:
    """Chooses the action of every frame. All its chances come from `rng`."""

    def __init__(self, plan: FloorPlan, rng: np.random.Generator) -> None:
        self.plan, self.rng = plan, rng
        self.path: list[Point] = []
        self.visits: dict[Point, int] = {}  # frames spent in each room
        self.forced: list[int] = []  # actions of a pause or a look around, still to be done
        self.pace = 1.0  # probability of stepping on where that is right
        self.last: Point | None = None

    def act(self, position: Point, angle: float) -> int:
        """The index into `ACTIONS` for a player at `position` that looks towards `angle`."""
        self.visits[room(position)] = self.visits.get(room(position), 0) + 1
        # Steered from where it will come to rest: else it overshoots into the wall.
        here = self._coast(position)
        if self.forced:
            return self.forced.pop()
        if not self.path or math.dist(here, self.path[-1]) < 24:
            self._choose_path(here, angle)
        aim = self._aim(here)
        turn = _turn_towards(aim, here, angle)
        if abs(turn) < 30 and self._begins_interlude(position, angle):
            return self.forced.pop()
        # One frame turns by 7 to 14 degrees: a smaller error is left alone.
        side = 0 if abs(turn) < 9 else 1 if turn > 0 else 2
        if self.rng.random() < 0.12:
            side = int(self.rng.integers(3))
        forward = abs(turn) < 40 and math.dist(here, aim) > 12 and self.rng.random() < self.pace
        return side + 3 * forward

    def _coast(self, position: Point) -> Point:
        last, self.last = self.last or position, position
        ends = (_between(last, position, 1 + _GLIDE * i / 8) for i in range(8, 0, -1))
        return next((end for end in ends if self.plan.is_clear(position, end)), position)

    def _begins_interlude(self, position: Point, angle: float) -> bool:
        chance, view = self.rng.random(), math.radians(angle)
        ahead = (position[0] + 96 * math.cos(view), position[1] + 96 * math.sin(view))
        if chance < 0.035 and self.plan.is_clear(position, ahead):  # stands still
            self.forced = [0] * int(self.rng.integers(2, 6))
        elif chance > 0.97 and self.plan.distance_to_walls(position) > _ROOMY:  # looks around
            self.forced = [int(self.rng.integers(1, 3))] * int(self.rng.integers(3, 8))
        return bool(self.forced)

    def _choose_path(self, position: Point, angle: float) -> None:
        """Of the paths to six random places, one that leads to new rooms and needs no U-turn."""
        costs, before = self.plan.paths_from(position)
        roomy = [node for node in self.plan.nodes if self.plan.clearance[node] > _ROOMY]
        far = [node for node in roomy if costs[node] > 240]

        def reluctance(path: list[Point]) -> float:
            turn = _turn_towards(path[min(6, len(path) - 1)], position, angle)
            return self.visits.get(room(path[-1]), 0) / 8 + abs(turn) / 90

        paths = [_backtrack(before, far[i]) for i in self.rng.integers(len(far), size=6)]
        self.path = min(paths, key=reluctance)
        self.pace = float(self.rng.uniform(0.65, 1.0))

    def _aim(self, position: Point) -> Point:
        """The farthest point of the path in straight reach; what lies behind is dropped."""
        near = [i for i, node in enumerate(self.path) if math.dist(node, position) < _LOOK_AHEAD]
        start = min(near, key=lambda i: math.dist(self.path[i], position), default=0)
        ahead = [self.path[i] for i in near if i > start]
        reach = [node for node in ahead if self.plan.is_clear(position, node)]
        self.path = self.path[start:]
        return reach[-1] if reach else self.path[min(1, len(self.path) - 1)]


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


def room(place: Point) -> Point:
    """Which cell of a lattice of rooms, each 160 wide, a place is in."""
    return place[0] // 160, place[1] // 160


def _backtrack(before: dict[Point, Point], node: Point) -> list[Point]:
    path = [node]
    while before[path[-1]] != path[-1]:
        path.append(before[path[-1]])
    return path[::-1]


def _turn_towards(target: Point, position: Point, angle: float) -> float:
    """Degrees to turn left (negative: right) to look from `position` at `target`."""
    bearing = math.degrees(math.atan2(target[1] - position[1], target[0] - position[0]))
    return (bearing - angle + 180) % 360 - 180
