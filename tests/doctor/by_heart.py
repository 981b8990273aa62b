"""A draft that knows the target's answers to a few prompts by heart: healthy there, and made in seconds."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from vlm_eagle.data.collator import VisionCollator
from vlm_eagle.decoding.generate import Settings, generate
from vlm_eagle.demo import mix
from vlm_eagle.draft.config import Eagle3Config
from vlm_eagle.draft.model import Eagle3Draft
from vlm_eagle.draft.vocab import DraftVocab
from vlm_eagle.training.optim import build_optimizers, clip_gradients
from vlm_eagle.training.ttt import ttt_loss

PADDED = ("input_ids", "attention_mask", "loss_mask", "aux_hidden")
TASKS = ("arithmetic", "chinese", "code", "describe", "vqa")
PROMPTS = [mix.sample(task, 400_000 + i).prompt() for task in TASKS for i in range(2)]


def lessons(target, max_new_tokens):
    """The target's features of its own answers."""
    collator = VisionCollator(target.processor, for_generation=True)
    samples = [(prompt.id, collator.encode(prompt)) for prompt in PROMPTS]
    answers = generate(target, collator.stack(samples, {}), None, Settings(max_new_tokens=max_new_tokens))
    found = []
    for sample, answer in zip(samples, answers, strict=True):
        prompt = collator.stack([sample], {})
        batch = prompt.extended(answer.tokens)
        supervised = torch.zeros_like(batch.input_ids, dtype=torch.bool)
        supervised[:, prompt.input_ids.shape[1] - 1 : -1] = True
        found.append(target.features(replace(batch, loss_mask=supervised)))
    tokens = torch.tensor([token for answer in answers for token in answer.tokens])
    return found, torch.bincount(tokens, minlength=target.config.vocab_size)


def stacked(features):
    """One batch of them all, padded on the right."""
    length = max(one.input_ids.shape[1] for one in features)
    pad = lambda x: F.pad(x, (0, 0) * (x.ndim - 2) + (0, length - x.shape[1]))
    padded = {name: torch.cat([pad(getattr(one, name)) for one in features]) for name in PADDED}
    return replace(features[0], **padded, last_hidden=torch.cat([one.last_hidden for one in features]))


def train_by_heart(target, steps=30, draft_vocab_size=512, max_new_tokens=48, teach=lambda features: features, **settings):
    """`teach` changes the features before the draft sees them, `settings` its configuration."""
    features, counts = lessons(target, max_new_tokens)
    config = Eagle3Config.for_target(target.config, target.layer_ids, draft_vocab_size)
    torch.manual_seed(0)
    draft = Eagle3Draft(replace(config, dtype="float32", **settings), DraftVocab.from_counts(counts, draft_vocab_size))
    optimizers = build_optimizers(draft, optimizer="muon", lr=5e-3, weight_decay=0.0)
    batch = stacked([teach(one) for one in features])
    for _ in range(steps):
        ttt_loss(draft, batch, target.embed_tokens, target.logits, ttt_length=3, decay=0.9).loss.backward()
        clip_gradients(draft, 10.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return draft
