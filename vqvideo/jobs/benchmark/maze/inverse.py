"""What was done between two frames: an inverse model, learnt from recordings, that is to judge
imagined ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqvideo.data.episodes import Episode
from vqvideo.media import from_uint8, to_uint8

WIDTHS = (32, 64, 64)
STEPS = 1500
BATCH = 128
LEARNING_RATE = 2e-3
PAIRS_AT_ONCE = 1024


class InverseModel(nn.Module):
    """A small convolutional network: two frames to the logits of the actions.

    It sees frames at half their size. What a turn moves is as plain there, and fine texture, which
    a recording has and a decoded frame may not, decides less.

    Args:
        num_actions: that there are.
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
        """Logits `[n, num_actions]` for frames `[n, 3, h, w]` and those after them."""
        pair = F.avg_pool2d(torch.cat([first, second], dim=1), 2, ceil_mode=True)
        return self.head(self.body(pair))  # type: ignore[no-any-return]

    @torch.no_grad()
    def recovered(self, clips: Tensor) -> Tensor:
        """The most probable action between each two frames of clips `[b, 3, t, h, w]`: int64
        `[b, t - 1]`.
        """
        frames = clips.transpose(1, 2)
        first, second = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        pieces = zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True)
        found = torch.cat([self(*pair).argmax(dim=1) for pair in pieces])
        return found.reshape(len(clips), -1)


def learn_inverse(
    episodes: Sequence[Episode],
    num_actions: int,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> InverseModel:
    """An inverse model of recordings of one size, trained on all pairs of neighbours in them.

    Args:
        episodes: what it learns from.
        num_actions: that there are.
        seed: of its first weights and of the order of the pairs.
        device: where it learns and stays.
        progress: called with (steps done, all).
    """
    frames = torch.cat([to_uint8(episode.frames).transpose(0, 1) for episode in episodes])
    actions = torch.cat([episode.actions for episode in episodes])
    begins = torch.zeros(len(frames), dtype=torch.bool)
    begins[torch.tensor([0, *(len(e.actions) for e in episodes[:-1])]).cumsum(0)] = True
    seconds = (~begins).nonzero()[:, 0]
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InverseModel(num_actions, (frames.shape[2], frames.shape[3])).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    fading = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=STEPS)
    for step in range(STEPS):
        chosen = seconds[torch.randint(len(seconds), (BATCH,), generator=draw)]
        before, after = (from_uint8(frames[index]).to(device) for index in (chosen - 1, chosen))
        loss = F.cross_entropy(model(before, after), actions[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fading.step()
        if progress:
            progress(step + 1, STEPS)
    return model.eval()
