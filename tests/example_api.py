"""What a user writes. Checked strictly by pyright (test_types.py), and run by test_api.py."""

from pathlib import Path

import vlm_eagle


def describe(target: str, draft: Path, picture: Path) -> tuple[str, float]:
    """What the target says of a picture, and how many tokens each of its forwards gave."""
    pair = vlm_eagle.load_pair(target, draft)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "Describe this image."}]
    settings = vlm_eagle.Settings(shape=vlm_eagle.TreeShape(8), sampling=vlm_eagle.Sampling(), max_new_tokens=12)
    (answer,) = vlm_eagle.generate(pair, [{"role": "user", "content": content}], settings)
    assert answer.text == "".join(vlm_eagle.stream(pair, [{"role": "user", "content": content}], settings))
    assert answer.text == vlm_eagle.chat(pair, settings).send("Describe this image.", [picture]).text
    return answer.text, answer.stats.acceptance_length


if __name__ == "__main__":
    print(describe("demo", Path("outputs/demo/draft"), Path("picture.png")))
    print(vlm_eagle.train(vlm_eagle.TrainConfig(max_steps=10)).draft)
