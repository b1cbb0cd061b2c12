"""The verb `sentiment`: labels texts positive, negative or neutral, also by aspect.

Examples and calibration texts were written for this project; none is from a data set. The
selection and the form of the prompt were chosen on the training split of SST-2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import regex

from nbllm.engine.prompt import Part, plain
from nbllm.errors import LabelError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.prompts.arguments import check_names, require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples
from nbllm.frame.prompts.few_shot import TEXT, label_parts
from nbllm.frame.prompts.head import head_labels, refuse_prompt
from nbllm.frame.tasks.aspects import AspectTask
from nbllm.frame.tasks.base import Task
from nbllm.frame.tasks.label import HeadTask, LabelTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Sentiment"]

_EXAMPLE_FIELDS = ("text", "label")

_LABELS = ("positive", "negative")

# The order of the examples and the instruction are the best of 56 combinations that were tried;
# they are worth one or two points of accuracy.
_INSTRUCTION = "Tell whether each review is positive or negative."
_EXAMPLES = (
    ("An imaginative, tightly paced adventure for young and old.", "positive"),
    ("a limp retread of better thrillers , with no tension and no point .", "negative"),
    ("you would have to be made of stone not to be charmed", "positive"),
    ("The noodles were superb and the staff could not have been kinder.", "positive"),
    ("Cold soup, sour waiter, and a bill that made us laugh for the wrong reason.", "negative"),
    ("A warm, sharply written comedy that earns every one of its laughs.", "positive"),
    ("The app crashes every time I open a file, and support never replied.", "negative"),
    ("If you enjoy watching paint dry, this is the thriller of the year.", "negative"),
)

# Positive and negative in turn, with 3 to 30 words; longer texts shifted the offset wrongly.
# Films, like the examples, and other things that people review: with films only, praise of
# anything else is labelled negative too often.
_CALIBRATION = (
    "a small gem of a film",
    "a tedious, joyless slog",
    "funny, humane and wonderfully strange",
    "flat, noisy and instantly forgettable",
    "The cast is a delight from start to finish.",
    "I wanted my money and my evening back.",
    "not a wasted minute",
    "lacks any spark of life",
    "Gripping, clever and superbly shot.",
    "Stale jokes and cardboard characters.",
    "an enchanting debut",
    "a muddled, charmless sequel",
    "Great little cafe, lovely bread.",
    "Broke after two days. Avoid.",
    "a bold and moving piece of storytelling",
    "too silly to scare , too dull to amuse",
    (
        "The story is simple, but it is told with such care and good humour that I was sorry "
        "to see it end."
    ),
    (
        "The story is simple, and it is told with so little care or humour that I was "
        "counting the minutes."
    ),
    "a quietly devastating drama whose two young leads give the performances of their careers",
    "a drama so determined to be profound that it forgets to be about anyone at all",
    (
        "It takes a while to find its feet, but once it does this thriller grips you and "
        "does not let go."
    ),
    (
        "It starts with a clever idea, then spends ninety minutes running away from it in "
        "search of cheap shocks."
    ),
    ("the animation is glorious , the songs are catchy , and even the villain gets a laugh or two"),
    (
        "the animation looks cheap , the songs all sound alike , and even small children "
        "will grow restless"
    ),
    (
        "Fans of the book need not worry: this is a faithful, spirited version that never "
        "talks down to its audience."
    ),
    (
        "Fans of the book should stay away: everything that made it special has been cut, "
        "softened or explained to death."
    ),
    (
        "Few documentaries about music manage to be this informative and this much fun at "
        "the same time."
    ),
    (
        "There may be a good documentary in this material, but nobody involved seems to have "
        "looked for it."
    ),
    (
        "The kettle boils quickly, pours without a drip, and still looks new after a year of "
        "daily use."
    ),
    (
        "The kettle leaked from the first day, and the replacement that they sent me leaked "
        "even more."
    ),
    (
        "With hardly any dialogue and almost no budget, the director conjures a world that "
        "feels complete and true."
    ),
    (
        "With a famous cast and a huge budget, the director still cannot conjure a single "
        "scene worth remembering."
    ),
    "Fits perfectly, charges fast, and the battery lasts all week.",
    "The zip broke on the first day and the lining came apart on the second.",
    "quick delivery , well packed , exactly as described",
    "Still waiting for the refund they promised a month ago.",
    "The receptionist remembered our names, and breakfast was a feast.",
    "The room smelled of smoke and the shower ran cold.",
    "Does what it should without a fuss; my parents had it running in minutes.",
    "An update wiped all my notes, and nobody at support seems to care.",
)


# For neutral=True. Chosen on the training split of SST-5: an order that begins with neutral.
_NEUTRAL_INSTRUCTION = "Tell whether each review is positive, neutral or negative."
_NEUTRAL_EXAMPLES = (
    ("The film follows two sisters who inherit a farm in the north.", "neutral"),
    _EXAMPLES[3],
    _EXAMPLES[4],
    ("Some scenes are clever and some are dull, and in the end they cancel out.", "neutral"),
    _EXAMPLES[2],
    _EXAMPLES[1],
    ("The parcel came on Thursday in a plain brown box.", "neutral"),
    _EXAMPLES[0],
    _EXAMPLES[6],
    ("neither as good as its first half nor as bad as its last", "neutral"),
    _EXAMPLES[5],
    _EXAMPLES[7],
)

# Facts, and praise and blame that cancel out: half as many as there are of either kind above.
# With as many, hardly any text would be labelled neutral.
_NEUTRAL_CALIBRATION = (
    "a sequel set in 1970s Lisbon",
    "good in parts",
    "The director's second film after a documentary about trains.",
    "neither here nor there",
    "The book has twelve chapters and an index.",
    "The acting is strong and the script is weak, so it comes out about even.",
    "a retired detective , a missing painting and one long night in the city",
    "The kettle holds a litre and a half and comes in white or black.",
    "The first hour drags, the second flies, and I still cannot say whether I liked it.",
    "Children may enjoy it more than their parents, who will have seen it all before.",
)

# The labels of classifiers for each sentiment, in lower case.
_CLASSIFIER_LABELS = {
    "positive": ("positive", "pos"),
    "neutral": ("neutral", "neu"),
    "negative": ("negative", "neg"),
}

# Sentiment by aspect. The form of the prompt and the prior were chosen on 32 reviews written for
# this purpose. With the labels positive, negative and "not mentioned", SmolLM2-135M detected
# whether a text mentions an aspect hardly better than chance (AUC 0.55 to 0.63); with the
# likelihood of a statement about the aspect, much better (0.88).
_OPINIONS = {"positive": "good", "negative": "bad"}  # label to word in the prompt

_ASPECT_EXAMPLES = (
    (
        "The pasta was superb, but it took an hour to arrive.",
        (("food", "good"), ("waiting time", "bad")),
    ),
    (
        "Nobody answered my calls, though the sofa itself is comfortable.",
        (("comfort", "good"), ("support", "bad")),
    ),
    ("The songs are lovely. The jokes are not.", (("music", "good"), ("humour", "bad"))),
    ("A bus stops right outside, which was handy.", (("transport", "good"),)),
)

# For Chinese aspects, whose names are likely after any Chinese text.
_CHINESE_EXAMPLES = (
    ("面条很筋道，可惜等了很久。", (("面条", "good"), ("上菜速度", "bad"))),
    ("沙发坐着舒服，但是打电话没人接。", (("舒适度", "good"), ("售后", "bad"))),
    ("歌很好听，笑话不好笑。", (("音乐", "good"), ("笑点", "bad"))),
    ("门口就有公交车站，很方便。", (("交通", "good"),)),
)
_CHINESE_CALIBRATION = (
    "味道好极了，下次还来。",
    "等了半天没人理，气死了。",
    "房间干净，床也很舒服。",
    "电池半天就没电了，后悔买了。",
    "电影节奏紧凑，演员演得很好。",
    "剧情拖沓，看到一半就睡着了。",
    "物流很快，包装也很仔细。",
    "客服一直不回复，太失望了。",
    "手机用了一年，还是很流畅。",
    "衣服洗一次就变形了。",
    "老师讲得清楚，孩子很喜欢。",
    "空调坏了，半夜热得睡不着。",
    "这本书写得真好，一口气读完了。",
    "价格虚高，质量很差。",
    "离地铁近，出门很方便。",
    "排队两个小时，根本不值得。",
    "书有十二章。",
    "星期四送到的，白色的箱子。",
)
_HAN = regex.compile(r"\p{Han}")


@dataclass(frozen=True)
class Options:
    """The options of `Sentiment`."""

    neutral: bool = option('Whether to also give the label "neutral".', False)
    aspects: Sequence[str] | None = option(
        "The aspects to label separately, with a causal model. The answer is then JSON text "
        """('{"food": "positive"}'), and each aspect has a column `<column>_sentiment_<aspect>`, """
        "null where the text does not mention it, and the column's `_score`. Name the aspects in "
        "the language of the texts.",
        None,
    )
    instruction: str | None = option(
        "The instruction in front of the examples, instead of the built-in one.", None
    )
    examples: Examples | None = option(
        "(text, label) pairs for the prompt: a list, a mapping of text to label, or dicts or a "
        'frame with the names "text" (or the column\'s) and "label". They replace the built-in '
        "ones.",
        None,
    )
    probabilities: bool = option("Whether to add a column per label with its probability.", False)


class Sentiment(Verb[Options]):
    """Label each text positive or negative, with a calibrated probability.

    A classifier is supported if its labels are named positive, negative and neutral (or pos,
    neg, neu). Its probabilities are its own, without further calibration.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        LabelError: An example has another label, a classifier's labels are named otherwise, or
            aspects are blank, repeated, or combined with `neutral` or `examples`.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> import nbllm, pandas as pd
        >>> df = pd.DataFrame({"review": ["A delight from start to finish.", None]})
        >>> df.llm.sentiment("review")["review_sentiment"].tolist()  # doctest: +SKIP
        ['positive', nan]
    """

    name = "sentiment"
    options = Options
    fixed_labels: ClassVar[Mapping[frozenset[str], Mapping[str, Any]]] = {
        frozenset(_LABELS): {},
        frozenset({*_LABELS, "neutral"}): {"neutral": True},
    }

    def example_fields(self, options: Options) -> Fields:
        return _EXAMPLE_FIELDS

    def task(self, model: Model, subject: str, options: Options) -> Task:
        instruction, examples = options.instruction, options.examples
        if options.aspects is not None:
            if options.neutral or examples is not None:
                other = "neutral=True" if options.neutral else "examples="
                raise LabelError(f"aspects= cannot be combined with {other}. Leave one out.")
            return _aspect_task(model, options.aspects, instruction)
        require(model, self.name, "causal", "classifier")
        neutral = options.neutral
        labels = ("positive", "neutral", "negative") if neutral else ("positive", "negative")
        if model.kind == "classifier":
            refuse_prompt(model, instruction=instruction, examples=examples)
            return HeadTask(verb=self.name, labels=labels, heads=_heads(model, labels))
        if instruction is None:
            instruction = _NEUTRAL_INSTRUCTION if neutral else _INSTRUCTION
        built_in = _NEUTRAL_EXAMPLES if neutral else _EXAMPLES
        pairs = built_in if examples is None else read_examples(examples, _EXAMPLE_FIELDS, labels)
        return LabelTask(
            verb=self.name,
            template=plain(
                model.tokenizer, label_parts(instruction, pairs, text="Review", answer="Sentiment")
            ),
            labels=labels,
            answers=tuple(f" {label}" for label in labels),
            calibration=(*_CALIBRATION, *_NEUTRAL_CALIBRATION) if neutral else _CALIBRATION,
        )


VERB = Sentiment()


def _heads(model: Model, labels: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of the sentiments among the labels of a classifier."""
    own = [label.strip().lower() for label in head_labels(model)]
    found = [
        [n for n, name in enumerate(own) if name in _CLASSIFIER_LABELS[label]] for label in labels
    ]
    if all(len(positions) == 1 for positions in found):
        return tuple(position for (position,) in found)
    missing = next(label for label, heads in zip(labels, found, strict=True) if len(heads) != 1)
    raise LabelError(
        f"{model.name} gives {', '.join(head_labels(model))}, and which of them means {missing} "
        "cannot be known from their names. Use classify, which takes a classifier's labels as "
        f"they are{', or leave out neutral=True' if missing == 'neutral' else ''}."
    )


def _aspect_task(model: Model, aspects: Sequence[str], instruction: str | None) -> AspectTask:
    """Return the task that labels each aspect, or finds that a text does not mention it."""
    require(model, "sentiment with aspects", "causal")
    names = _check_aspects(aspects)
    chinese = any(_HAN.search(name) for name in names)
    head = f"{instruction}\n\n" if instruction else ""
    for text, opinions in _CHINESE_EXAMPLES if chinese else _ASPECT_EXAMPLES:
        statement = " and of ".join(f"{aspect} as {opinion}" for aspect, opinion in opinions)
        head += f"Review: {text}\nThe review speaks of {statement}.\n\n"
    parts = [
        Part("text", f"{head}Review: "),
        Part("field", TEXT),
        Part("text", "\nThe review speaks of"),
    ]
    return AspectTask(
        verb="sentiment",
        template=plain(model.tokenizer, parts),
        aspects=names,
        opinions=tuple(_OPINIONS),
        statements=tuple(f" {name} as {word}" for name in names for word in _OPINIONS.values()),
        calibration=_CHINESE_CALIBRATION if chinese else _CALIBRATION,
    )


def _check_aspects(aspects: Sequence[str]) -> tuple[str, ...]:
    names = check_names(aspects, "aspects", "aspect")
    if not names:
        raise LabelError("aspects is empty. Name one or more: aspects=['food', 'service'].")
    return names
