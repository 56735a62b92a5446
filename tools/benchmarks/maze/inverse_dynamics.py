"""An inverse dynamics model: trained on recordings, it predicts the action between two frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.media import from_uint8, to_uint8
from vqvideo.recipes.worlds.episodes import Episode

WIDTHS = (32, 64, 64)
NUM_STEPS = 1500
BATCH_SIZE = 128
LEARNING_RATE = 2e-3
EVAL_BATCH_SIZE = 1024


class InverseDynamicsModel(nn.Module):
    """A small convolutional network that maps two frames to the logits of the actions.

    It takes frames at half resolution, where motion is equally visible, and fine texture, which
    recordings have but decoded frames may lack, has less influence.

    Args:
        num_actions: number of actions.
        size: height and width of the frames.
    """

    def __init__(self, num_actions: int, size: tuple[int, int]) -> None:
        super().__init__()
        sides, channels, layers = [-(-side // 2) for side in size], 6, list[nn.Module]()
        for width in WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU()]
            channels, sides = width, [-(-side // 2) for side in sides]
        self.num_actions = num_actions
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels * sides[0] * sides[1], num_actions)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return logits `[n, num_actions]` for frames `[n, 3, h, w]` and their next frames."""
        pair = F.avg_pool2d(torch.cat([first, second], dim=1), 2, ceil_mode=True)
        return self.head(self.body(pair))  # type: ignore[no-any-return]

    @torch.no_grad()
    def predict_actions(self, clips: Tensor) -> Tensor:
        """Return the most probable actions between consecutive frames of clips `[b, 3, t, h, w]`:
        int64 `[b, t - 1]`.
        """
        frames = clips.transpose(1, 2)
        first, second = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        chunks = zip(first.split(EVAL_BATCH_SIZE), second.split(EVAL_BATCH_SIZE), strict=True)
        actions = torch.cat([self(*pair).argmax(dim=1) for pair in chunks])
        return actions.reshape(len(clips), -1)


def train_inverse_model(
    episodes: Sequence[Episode],
    num_actions: int,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> InverseDynamicsModel:
    """Train an inverse dynamics model on all pairs of consecutive frames of recordings.

    Args:
        episodes: recordings with frames of one size.
        num_actions: number of actions.
        seed: seed of the initial weights and of the sampling of pairs.
        device: device for training and of the returned model.
        progress: called with (steps done, total steps).
    """
    frames = torch.cat([to_uint8(episode.frames).transpose(0, 1) for episode in episodes])
    actions = torch.cat([episode.actions for episode in episodes])
    is_first = torch.zeros(len(frames), dtype=torch.bool)
    is_first[torch.tensor([0, *(len(e.actions) for e in episodes[:-1])]).cumsum(0)] = True
    seconds = (~is_first).nonzero()[:, 0]
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InverseDynamicsModel(num_actions, (frames.shape[2], frames.shape[3])).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=NUM_STEPS)
    for step in range(NUM_STEPS):
        indices = seconds[torch.randint(len(seconds), (BATCH_SIZE,), generator=rng)]
        before, after = (from_uint8(frames[index]).to(device) for index in (indices - 1, indices))
        loss = F.cross_entropy(model(before, after), actions[indices].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if progress:
            progress(step + 1, NUM_STEPS)
    return model.eval()
