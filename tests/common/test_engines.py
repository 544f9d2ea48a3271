from __future__ import annotations

import torch

from common.engines import PreparePrompts


def test_prompts_are_passed_on_where_there_are_some() -> None:
    batch = {
        "image": torch.ones(1, 3, 4, 4),
        "label": torch.zeros(1, 2, 4, 4),
        "prompts": torch.full((1, 2, 1, 3), 2.0),
    }

    image, label, args, named = PreparePrompts()(batch)
    *_, others = PreparePrompts()({key: batch[key] for key in ("image", "label")})

    assert torch.equal(image, batch["image"])
    assert torch.equal(label, batch["label"])
    assert args == ()
    assert set(named) == {"prompts"}
    assert torch.equal(named["prompts"], batch["prompts"])
    assert others == {}


def test_rows_of_prompts_that_count_nowhere_are_left_out() -> None:
    prompts = torch.full((2, 2, 5, 3), -1.0)
    prompts[0, 0, 1], prompts[0, 0, 4], prompts[1, 1, 3] = torch.tensor([[1.0, 2, 2], [3, 4, 3], [5, 6, 0]])

    *_, named = PreparePrompts()({"image": torch.ones(2), "label": torch.ones(2), "prompts": prompts})

    expected = torch.full((2, 2, 2, 3), -1.0)
    expected[0, 0], expected[1, 1, 0] = prompts[0, 0, [1, 4]], prompts[1, 1, 3]
    assert torch.equal(named["prompts"], expected)


def test_other_keys() -> None:
    batch = {"image": torch.ones(1), "label": torch.ones(1), "early": torch.ones(2), "window": torch.ones(3)}

    *_, named = PreparePrompts(["early", "prompts", "window"])(batch)

    assert {name: len(value) for name, value in named.items()} == {"early": 2, "window": 3}
