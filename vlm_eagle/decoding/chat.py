"""A conversation of several turns with one decoder."""

from collections.abc import Generator, Sequence

from vlm_eagle.data.conversation import Conversation, Message, TextPart
from vlm_eagle.data.prompts import Picture, read_picture
from vlm_eagle.decoding.answers import Answer, answer_of, prompt_collator
from vlm_eagle.decoding.decode_loop import DecodeLoop
from vlm_eagle.decoding.detokenize import TextStream, decode
from vlm_eagle.decoding.generate import Generation, Settings, stream_with


class Chat:
    """One conversation. The caches stay between turns, so an image is read once. `system` is the system message, if any."""

    def __init__(self, decoder: DecodeLoop, settings: Settings, system: str | None = None):
        self.decoder, self.settings = decoder, settings
        self.opening = () if system is None else (Message("system", (TextPart(system),)),)
        self.collator = prompt_collator(decoder.target)
        self.conversation: Conversation | None = None
        self.answer = Generation()  # the last one

    def send(self, text: str, images: Sequence[Picture] = ()) -> Answer:
        """The whole answer to the user's next turn; arguments and errors are those of `ask`."""
        for _ in self.ask(text, images):
            pass
        return answer_of(self.decoder.target, self.answer)

    def ask(self, text: str, images: Sequence[Picture] = ()) -> Generator[tuple[str, bool], None, None]:
        """Yields the answer as (text, whether the draft guessed it). What was written stays in the conversation, also when
        the caller stops listening.

        Raises:
            UserError: an unusable image, or a conversation too long for the target. It stays as it was.
        """
        before = self.conversation or Conversation("chat", self.opening, source="chat")
        asked = before.asked(text, tuple(read_picture(image, before.source) for image in images))
        prompt = self.collator([asked])
        assert prompt is not None
        tokenizer, answer = self.decoder.target.tokenizer, Generation()
        self.answer, words, shown = answer, TextStream(tokenizer), 0
        try:
            for _ in stream_with(self.decoder, prompt.to(self.decoder.target.device), self.settings, [answer]):
                for token, drafted in zip(answer.tokens[shown:], answer.drafted[shown:], strict=True):
                    yield words.push([token]), drafted
                shown = len(answer.tokens)
            yield words.end(), False
        finally:
            if answer.tokens:
                self.conversation = asked.answered(decode(tokenizer, answer.tokens))
            else:  # the prompt may have been half read
                self.decoder.reset_cache()

    def forget(self) -> None:
        """A new conversation."""
        self.conversation = None
